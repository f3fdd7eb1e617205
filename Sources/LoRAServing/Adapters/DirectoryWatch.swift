import Glibc
import LoRAFormats

/// News of the files of a directory (inotify(7)).
final class DirectoryWatch: Sendable {
    /// What happened since the last look.
    struct News {
        /// Names of files that were written, moved here, or whose permissions changed.
        var changed: Set<String> = []
        /// Names of files that were deleted or moved away.
        var gone: Set<String> = []
        /// Events were lost: everything may have changed.
        var isIncomplete = false
        /// The directory itself was deleted, moved away or unmounted.
        var directoryIsGone = false

        var isEmpty: Bool { changed.isEmpty && gone.isEmpty && !isIncomplete && !directoryIsGone }
    }

    /// To wait for with `poll`.
    let descriptor: Int32

    /// - Throws: `FormatError` with the system's reason.
    init(directory: String) throws(FormatError) {
        let descriptor = try SystemCall.check("cannot watch the directory") {
            inotify_init1(Int32(IN_NONBLOCK | IN_CLOEXEC))
        }
        self.descriptor = descriptor
        let events =
            IN_CLOSE_WRITE | IN_MOVED_TO | IN_MOVED_FROM | IN_DELETE | IN_ATTRIB | IN_DELETE_SELF | IN_MOVE_SELF
            | IN_ONLYDIR
        try SystemCall.check("cannot watch the directory") {
            inotify_add_watch(descriptor, directory, UInt32(bitPattern: Int32(truncatingIfNeeded: events)))
        }
    }

    deinit { close(descriptor) }

    /// What happened so far; returns at once.
    func news() -> News {
        var news = News()
        withUnsafeTemporaryAllocation(byteCount: 1 << 16, alignment: 8) { buffer in
            while true {
                let count = read(descriptor, buffer.baseAddress, buffer.count)
                if count < 0, errno == EINTR { continue }
                guard count > 0 else { return }
                Self.parse(UnsafeRawBufferPointer(rebasing: buffer[..<count]), into: &news)
            }
        }
        return news
    }

    private static func parse(_ bytes: UnsafeRawBufferPointer, into news: inout News) {
        var offset = 0
        let header = MemoryLayout<inotify_event>.size
        while offset + header <= bytes.count {
            let event = bytes.loadUnaligned(fromByteOffset: offset, as: inotify_event.self)
            let end = min(offset + header + Int(event.len), bytes.count)
            // Zeros fill the name up.
            let name = String(validating: bytes[(offset + header)..<end].prefix { $0 != 0 }, as: UTF8.self)
            news.add(Int(event.mask), name: name)
            offset = end
        }
    }
}

extension DirectoryWatch.News {
    fileprivate mutating func add(_ mask: Int, name: String?) {
        func has(_ events: Int...) -> Bool { events.contains { mask & $0 != 0 } }
        if has(Int(IN_Q_OVERFLOW)) { isIncomplete = true }
        if has(Int(IN_DELETE_SELF), Int(IN_MOVE_SELF), Int(IN_UNMOUNT), Int(IN_IGNORED)) { directoryIsGone = true }
        guard let name, !name.isEmpty else { return }
        if has(Int(IN_CLOSE_WRITE), Int(IN_MOVED_TO), Int(IN_ATTRIB)) { changed.insert(name) }
        if has(Int(IN_DELETE), Int(IN_MOVED_FROM)) { gone.insert(name) }
    }
}
