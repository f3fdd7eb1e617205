import Foundation
import LoRAFormats
import LoRAModel
import Logging
import Synchronization

/// The adapters in service and how they get there: read off the threads that serve requests, checked, and published by
/// one change of a table. All of it blocks but what only looks at the table.
final class AdapterRegistry: Sendable {
    let reader: AdapterReader
    let residency: AdapterResidency
    private let metrics: AdapterMetrics
    private let logger: Logger
    private let table: Mutex<AdapterTable>
    private let currentDirectory: Mutex<OpenDirectory>
    /// For the arithmetic of one adapter that someone waits for.
    private let pool: Mutex<ThreadPool>

    /// Versions may follow each other while one is read; after so many the last reader gives up.
    private static let attempts = 8

    /// - Parameter threads: for that arithmetic; nil for all cores.
    init(
        reader: AdapterReader, directory: OpenDirectory, maximumBytes: Int, threads: Int? = nil,
        residency: AdapterResidency, metrics: AdapterMetrics, logger: Logger
    ) {
        self.reader = reader
        self.residency = residency
        self.metrics = metrics
        self.logger = logger
        table = Mutex(AdapterTable(maximumBytes: maximumBytes))
        currentDirectory = Mutex(directory)
        pool = Mutex(ThreadPool(count: threads))
    }

    deinit { pool.withLock { $0.shutdown() } }

    var directory: OpenDirectory {
        get { currentDirectory.withLock { $0 } }
        set { currentDirectory.withLock { $0 = newValue } }
    }

    /// Changes or reads the table; what leaves it is freed after the lock.
    func update<Result: Sendable>(_ body: @Sendable (inout AdapterTable) -> Result) -> Result {
        let (result, discarded) = table.withLock { table in (body(&table), table.takeDiscarded()) }
        withExtendedLifetime(discarded) {}
        return result
    }

    // MARK: Loading

    /// The version of `name` in service, read when it is not in memory.
    func fetch(_ name: String) -> Result<AdapterSnapshot, AdapterStore.Failure> {
        for _ in 0..<Self.attempts {
            switch update({ $0.plan(name) }) {
            case .unknown: return .failure(.unknown(name))
            case .take(let snapshot): return .success(snapshot)
            case .read(let path, let revision, let known):
                do throws(AdapterReader.Failure) {
                    let (description, snapshot) = try load(name, path, known: known)
                    let outcome = publish(name, path, description, snapshot, revision: revision)
                    if case .overtaken = outcome { continue }
                    if update({ $0.keep(snapshot, for: name, room: .made) }) == .noRoom {
                        return .failure(noRoom(for: name, bytes: snapshot.residentBytes))
                    }
                } catch {
                    return .failure(.unusable(name: name, reason: reject(name, path, error)))
                }
            }
        }
        return .failure(.unusable(name: name, reason: "its versions follow each other too fast; try again"))
    }

    /// Publishes the file at `path` as `name`.
    func load(_ name: String, path: String, replaces: Bool) -> Result<Void, AdapterStore.Failure> {
        for _ in 0..<Self.attempts {
            let revision = update { $0.revision(of: name) }
            guard revision == nil || replaces else { return .failure(.alreadyLoaded(name)) }
            do throws(AdapterReader.Failure) {
                let (description, snapshot) = try load(name, path)
                if case .overtaken = publish(name, path, description, snapshot, revision: revision) { continue }
                _ = update { $0.keep(snapshot, for: name, room: .made) }
                return .success(())
            } catch {
                switch error {
                case .missing: return .failure(.unknown(path))
                case .outside: return .failure(.badPath(path))
                case .unusable(let reason, _):
                    report(name, path, reason, isPublished: revision != nil)
                    return .failure(.unusable(name: name, reason: reason))
                }
            }
        }
        return .failure(.unusable(name: name, reason: "its versions follow each other too fast; try again"))
    }

    /// Publishes the file at `path`, which is new or has changed, as `name`; retires the name when the file is gone.
    /// - Returns: the state of the file that this took care of; nil when it shall be looked at again.
    func refresh(_ name: String, path: String) -> OpenFile.State? {
        for _ in 0..<Self.attempts {
            let revision = update { $0.revision(of: name) }
            do throws(AdapterReader.Failure) {
                let (description, snapshot) = try load(name, path, isUrgent: false)
                if case .overtaken = publish(name, path, description, snapshot, revision: revision) { continue }
                return description.state
            } catch {
                if case .missing = error {
                    retire(name, path: path)
                    return nil
                }
                reject(name, path, error)
                if case .unusable(_, let state) = error { return state }
                return nil
            }
        }
        return nil
    }

    /// Publishes the file at `path` by what it says about itself, as `refresh`; its tensors are looked at when someone
    /// wants them.
    func announce(_ name: String, path: String) -> OpenFile.State? {
        do throws(AdapterReader.Failure) {
            let description = try reader.describe(path, in: directory)
            _ = publish(name, path, description, nil, revision: nil, level: .debug)
            return description.state
        } catch {
            if case .missing = error { return nil }
            reject(name, path, error)
            if case .unusable(_, let state) = error { return state }
            return nil
        }
    }

    /// - Parameter isUrgent: use all threads.
    private func load(
        _ name: String, _ path: String, known: (state: OpenFile.State, reason: String)? = nil, isUrgent: Bool = true
    ) throws(AdapterReader.Failure) -> (AdapterReader.Description, AdapterSnapshot) {
        let start = ContinuousClock.now
        let (description, parameters) = try reader.load(path, in: directory, known: known) { resolve in
            isUrgent ? pool.withLock { resolve($0) } : resolve(nil)
        }
        let duration = ContinuousClock.now - start
        metrics.loaded(in: duration)
        logger.info(
            "adapter read",
            metadata: ["adapter": "\(name)", "digest": "\(description.digest.prefix(12))", "time": "\(duration)"])
        let snapshot = AdapterSnapshot(
            name: name, digest: description.digest, parameters: parameters, residency: residency)
        return (description, snapshot)
    }

    // MARK: Publishing

    private func publish(
        _ name: String, _ path: String, _ description: AdapterReader.Description, _ snapshot: AdapterSnapshot?,
        revision: UInt64?, level: Logger.Level = .info
    ) -> AdapterTable.Outcome {
        let time = Int(Date().timeIntervalSince1970)
        let outcome = update { $0.publish(name, path: path, description, snapshot, revision: revision, time: time) }
        var details: Logger.Metadata = ["adapter": "\(name)", "digest": "\(description.digest.prefix(12))"]
        switch outcome {
        case .added: logger.log(level: level, "adapter published", metadata: details)
        case .replaced(let digest):
            metrics.swapped(name)
            details["replaces"] = "\(digest.prefix(12))"
            logger.log(level: level, "adapter replaced", metadata: details)
        case .unchanged, .overtaken: break
        }
        return outcome
    }

    /// Takes `name` out of service when it comes from `path`.
    func retire(_ name: String, path: String) {
        let isRetired = update { table in
            table.rejected[name] = nil
            return table.slots[name]?.path == path && table.retire(name)
        }
        if isRetired { logger.info("adapter retired: its file is gone", metadata: ["adapter": "\(name)"]) }
    }

    // MARK: Failures

    /// Notes that the file at `path` gives no version of `name`, and reports it unless it is known.
    /// - Returns: the reason.
    @discardableResult
    private func reject(_ name: String, _ path: String, _ failure: AdapterReader.Failure) -> String {
        let (reason, state) = failure.explanation
        let (isPublished, isKnown) = update { table in
            guard let slot = table.slots[name], slot.path == path else {
                let isKnown = table.rejected[name] == reason
                table.rejected[name] = reason
                return (false, isKnown)
            }
            let isKnown = slot.failure.map { $0.reason == reason && $0.state == state } ?? false
            table.fail(name, reason: reason, state: state)
            return (true, isKnown)
        }
        if !isKnown { report(name, path, reason, isPublished: isPublished) }
        return reason
    }

    private func report(_ name: String, _ path: String, _ reason: String, isPublished: Bool) {
        metrics.failed(isPublished ? name : nil)
        let message: Logger.Message =
            isPublished ? "adapter cannot be loaded; what is in service stays" : "adapter cannot be loaded"
        logger.warning(
            message, metadata: ["adapter": "\(name)", "file": "\(FormatError.quoted(path))", "reason": "\(reason)"])
    }

    private func noRoom(for name: String, bytes: Int) -> AdapterStore.Failure {
        let held = update { $0.heldBytes(but: name) }
        return .unusable(
            name: name,
            reason: "takes \(bytes) bytes of memory, and \(held) that adapters may take belong to pinned ones")
    }

    /// What the directory held at the start.
    func noteStart(in duration: Duration) {
        let (published, rejected) = update { ($0.slots.count, $0.rejected.count) }
        logger.info(
            "adapters published",
            metadata: ["count": "\(published)", "rejected": "\(rejected)", "time": "\(duration)"])
    }

    /// What became of the directory.
    func note(directoryIsGone isGone: Bool) {
        if isGone {
            logger.error(
                "the directory of adapters is gone; those in memory stay in service",
                metadata: ["directory": "\(directory.path)"])
        } else {
            logger.notice("the directory of adapters is back", metadata: ["directory": "\(directory.path)"])
        }
    }

    func note(_ message: Logger.Message, _ error: FormatError) {
        logger.warning(message, metadata: ["directory": "\(directory.path)", "reason": "\(error)"])
    }
}

extension AdapterReader.Failure {
    /// In words that name no path of the server.
    fileprivate var explanation: (reason: String, state: OpenFile.State?) {
        switch self {
        case .missing: ("its file is gone", nil)
        case .outside: ("its path leads out of the directory of adapters", nil)
        case .unusable(let reason, let state): (reason, state)
        }
    }
}
