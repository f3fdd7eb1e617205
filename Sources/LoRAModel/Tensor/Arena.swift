import Foundation
import LoRAFormats

/// One block of zeroed memory that a whole run carves its buffers from, so that a step allocates nothing.
///
/// The pages are anonymous and become resident when first touched. Buffers live as long as the arena.
public final class Arena {
    private let base: UnsafeMutableRawPointer
    /// Bytes reserved.
    public let capacity: Int
    /// Bytes handed out.
    public private(set) var used = 0

    /// - Throws: `FormatError` when the system does not grant the memory.
    public init(capacity: Int) throws {
        self.capacity = max(capacity, 1)
        let flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE
        guard let map = mmap(nil, self.capacity, PROT_READ | PROT_WRITE, flags, -1, 0), map != MAP_FAILED else {
            throw FormatError("cannot reserve \(capacity) bytes of memory: \(String(cString: strerror(errno)))")
        }
        base = map
    }

    deinit { munmap(base, capacity) }

    /// The next `count` elements, zero, aligned to 64 bytes.
    public func allocate<Element>(_ count: Int, of type: Element.Type = Element.self) -> UnsafeMutablePointer<Element> {
        let bytes = Self.size(of: type, count: count)
        precondition(used + bytes <= capacity, "arena of \(capacity) bytes asked for \(used + bytes)")
        defer { used += bytes }
        return (base + used).bindMemory(to: type, capacity: count)
    }

    /// Asks for large pages for what was allocated since `start`: where megabytes are walked through again and again,
    /// small pages wait for the translation of addresses. Elsewhere large pages only make more memory resident.
    func preferLargePages(since start: Int) {
        let page = 2 << 20
        let lower = (start + page - 1) / page * page
        let upper = used / page * page
        if lower < upper { madvise(base + lower, upper - lower, MADV_HUGEPAGE) }
    }

    /// The bytes that `allocate` takes for `count` elements.
    public static func size<Element>(of type: Element.Type, count: Int) -> Int {
        (count * MemoryLayout<Element>.stride + 63) / 64 * 64
    }
}
