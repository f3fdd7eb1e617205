import Dispatch
import Foundation
import Glibc
import LoRAFormats
import Logging

/// Follows the directory of adapters on a thread of its own, which also reads what changed, at a low priority.
///
/// Besides the system's news, which network file systems do not have and which can be lost, it looks through the
/// directory every few seconds.
final class AdapterWatcher: Sendable {
    private let command: (reader: Int32, writer: Int32)
    private let running = DispatchGroup()

    /// Inference goes first: a nicer thread gets about a tenth of a core that others want.
    private static let niceness: Int32 = 10

    /// - Throws: `FormatError` when the system has no more descriptors.
    init(registry: AdapterRegistry, watch: DirectoryWatch?, seen: [String: OpenFile.State?], interval: Duration) throws
    {
        var ends: [Int32] = [-1, -1]
        let type = SOCK_STREAM.rawValue | SOCK_CLOEXEC.rawValue | SOCK_NONBLOCK.rawValue
        try SystemCall.check("cannot make a pair of sockets") { socketpair(AF_UNIX, Int32(type), 0, &ends) }
        command = (ends[0], ends[1])
        let reader = ends[0]
        running.enter()
        let thread = Thread { [running] in
            // The second argument stands for the calling thread.
            setpriority(__priority_which_t(PRIO_PROCESS.rawValue), 0, Self.niceness)
            var follower = DirectoryFollower(registry: registry, watch: watch, seen: seen, interval: interval)
            follower.run(commands: reader)
            running.leave()
        }
        thread.name = "adapters"
        thread.start()
    }

    deinit {
        close(command.reader)
        close(command.writer)
    }

    /// Ends the thread and waits for that.
    func stop() {
        send(.stop)
        running.wait()
    }

    /// Looks through the directory now.
    func rescan() { send(.rescan) }

    enum Command: UInt8 {
        case stop
        case rescan
    }

    private func send(_ command: Command) {
        var byte = command.rawValue
        _ = write(self.command.writer, &byte, 1)
    }
}

/// What the watcher's thread knows and does.
struct DirectoryFollower {
    private let registry: AdapterRegistry
    private var watch: DirectoryWatch?
    /// Files that were taken care of, in the state in which they were; nil for those to be looked at again.
    private var seen: [String: OpenFile.State?]
    /// Files that differ from `seen`, and may be being written.
    private var unsettled: [String: OpenFile.State] = [:]
    private let interval: Duration
    private var isLost = false

    /// A file that is deleted is often about to be written again, or the directory about to go as a whole.
    private static let patience: UInt32 = 100_000

    init(registry: AdapterRegistry, watch: DirectoryWatch?, seen: [String: OpenFile.State?], interval: Duration) {
        self.registry = registry
        self.watch = watch
        self.seen = seen
        self.interval = interval
    }

    /// Follows the directory until `commands` says stop.
    mutating func run(commands: Int32) {
        var next = ContinuousClock.now + interval
        while true {
            switch wait(commands, until: next) {
            case .stop: return
            case .rescan: look(isPatient: false)
            case nil: break
            }
            if var news = watch?.news(), !news.isEmpty {
                if !news.gone.isEmpty, !news.isIncomplete {
                    usleep(Self.patience)
                    if let more = watch?.news() { news.add(more) }
                }
                apply(news)
            }
            if ContinuousClock.now >= next {
                look(isPatient: true)
                next = .now + interval
            }
        }
    }

    /// Waits for news, a command or `deadline`.
    private func wait(_ commands: Int32, until deadline: ContinuousClock.Instant) -> AdapterWatcher.Command? {
        var sources = [pollfd(fd: commands, events: Int16(POLLIN), revents: 0)]
        if let watch { sources.append(pollfd(fd: watch.descriptor, events: Int16(POLLIN), revents: 0)) }
        let rest = max(.zero, deadline - .now) / Duration.milliseconds(1)
        poll(&sources, nfds_t(sources.count), Int32(clamping: Int(rest.rounded(.up))))
        var byte: UInt8 = 0
        return read(commands, &byte, 1) == 1 ? AdapterWatcher.Command(rawValue: byte) : nil
    }

    mutating func apply(_ news: DirectoryWatch.News) {
        if news.directoryIsGone || !news.gone.isEmpty, !registry.directory.isAtPath {
            lose()
            // What was deleted with the directory stays in service.
            for file in news.changed { take(file) }
            return
        }
        if news.isIncomplete {
            look(isPatient: false)
            return
        }
        for file in news.changed { take(file) }
        for file in news.gone.subtracting(news.changed) { checkGone(file) }
    }

    /// Looks through the whole directory for what changed.
    /// - Parameter isPatient: leave files that may be being written until they stay the same from one look to the next.
    private mutating func look(isPatient: Bool) {
        if isLost || !registry.directory.isAtPath, !reopen() { return }
        let files: [String]
        do throws(FormatError) { files = try registry.directory.names() } catch {
            registry.note("the directory of adapters cannot be read; what is known stays in service", error)
            return
        }
        for file in files where AdapterStore.name(ofFile: file) != nil {
            let state = (try? registry.directory.open(file))?.state
            if let state {
                if seen[file] == .some(state) { continue }
                if isPatient, unsettled.updateValue(state, forKey: file) != state { continue }
            }
            take(file)
        }
        for file in Set(seen.keys).subtracting(files) { checkGone(file) }
    }

    private mutating func take(_ file: String) {
        guard let name = AdapterStore.name(ofFile: file) else { return }
        unsettled[file] = nil
        seen[file] = .some(registry.refresh(name, path: file))
    }

    private mutating func checkGone(_ file: String) {
        guard let name = AdapterStore.name(ofFile: file) else { return }
        do throws(OpenDirectory.Failure) {
            // Written again: news of that follow.
            _ = try registry.directory.open(file)
        } catch {
            guard case .missing = error else { return }
            seen[file] = nil
            unsettled[file] = nil
            registry.retire(name, path: file)
        }
    }

    private mutating func lose() {
        if !isLost { registry.note(directoryIsGone: true) }
        isLost = true
        watch = nil
    }

    /// Opens the directory that is at the path now.
    private mutating func reopen() -> Bool {
        lose()
        guard let directory = try? OpenDirectory(path: registry.directory.path) else { return false }
        watch = try? DirectoryWatch(directory: directory.path)
        registry.directory = directory
        registry.note(directoryIsGone: false)
        isLost = false
        // Adapters of the lost directory stay until a file of their name comes and goes.
        seen = [:]
        unsettled = [:]
        return true
    }
}

extension DirectoryWatch.News {
    fileprivate mutating func add(_ other: Self) {
        changed.formUnion(other.changed)
        gone.formUnion(other.gone)
        isIncomplete = isIncomplete || other.isIncomplete
        directoryIsGone = directoryIsGone || other.directoryIsGone
    }
}
