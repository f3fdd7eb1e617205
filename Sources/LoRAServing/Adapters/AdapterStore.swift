import Dispatch
import LoRAFormats
public import LoRAModel
public import Logging
public import Metrics
import Synchronization

/// The adapters of a directory, by name: watched, loaded when they are asked for, swapped while requests run.
///
/// Every `NAME.lora` of the directory is published as NAME. A file that appears, changes or goes is published, replaced or
/// retired; one that cannot be used leaves the version before in service. A request that has a snapshot keeps it, whatever
/// becomes of the name.
public final class AdapterStore: Sendable {
    /// A published adapter.
    public struct Entry: Sendable {
        /// The file's name without `.lora`.
        public var name: String
        /// The file in the directory.
        public var path: String
        /// Of the version in service (`AdapterSnapshot.digest`).
        public var digest: String
        public var rank: Int
        /// Of the file.
        public var fileBytes: Int
        public var isLoaded: Bool
        /// Never unloaded to make room.
        public var isPinned: Bool
        /// When this version was published.
        public var published: ContinuousClock.Instant
        /// Seconds since 1970 of the same moment.
        public var publishedTime: Int
        /// Versions that this name had before.
        public var swaps: Int
        /// Why a newer file of this name is not in service; nil when there is none.
        public var failure: String?
    }

    /// Why an adapter cannot be had.
    public enum Failure: Error, Sendable, Equatable {
        /// No adapter has this name, or no file this path.
        case unknown(String)
        /// `load` of a name that is in service without `replaces`.
        case alreadyLoaded(String)
        /// A path that leaves the directory, or is no path.
        case badPath(String)
        /// The file cannot be used; the reason names no path of the server.
        case unusable(name: String, reason: String)
    }

    private let registry: AdapterRegistry
    private let loaders: WorkerThreads
    let watcher: AdapterWatcher

    /// Publishes the adapters of `directory`, of which only the headers are read now.
    /// - Parameters:
    ///   - base: that all adapters must have been trained on.
    ///   - maximumBytes: of matrices that are kept in memory; 0 for any number. Adapters that were used longest ago go
    ///     first; requests that run may hold more.
    ///   - threads: for the arithmetic of an adapter that someone waits for; nil for all cores.
    /// - Throws: `FormatError` when the directory cannot be read.
    public convenience init(
        directory: String, base: BaseModel, maximumBytes: Int, threads: Int? = nil,
        logger: Logger = Logger(label: "lora.adapters"), metrics: any MetricsFactory = MetricsSystem.factory
    ) throws {
        try self.init(
            directory: directory, base: base, maximumBytes: maximumBytes, threads: threads, logger: logger,
            metrics: metrics, interval: .seconds(5))
    }

    /// - Parameter interval: between looks through the directory besides the system's news.
    init(
        directory path: String, base: BaseModel, maximumBytes: Int, threads: Int? = nil, logger: Logger,
        metrics: any MetricsFactory, interval: Duration
    ) throws {
        precondition(maximumBytes >= 0, "\(maximumBytes) bytes for adapters")
        let directory = try OpenDirectory(path: path)
        registry = AdapterRegistry(
            reader: AdapterReader(base: base, maximumBytes: maximumBytes), directory: directory,
            maximumBytes: maximumBytes, threads: threads, residency: AdapterResidency(factory: metrics),
            metrics: AdapterMetrics(factory: metrics), logger: logger)
        // Watched before it is read, so that nothing falls between.
        var watch: DirectoryWatch?
        do throws(FormatError) { watch = try DirectoryWatch(directory: path) } catch {
            registry.note("changes of adapters are noticed only every few seconds", error)
        }
        let start = ContinuousClock.now
        let seen = try Self.announce(registry)
        registry.noteStart(in: .now - start)
        watcher = try AdapterWatcher(registry: registry, watch: watch, seen: seen, interval: interval)
        loaders = WorkerThreads(count: 2, name: "adapter loader")
    }

    deinit {
        watcher.stop()
        loaders.stop()
    }

    /// Publishes all files of the directory, several at a time.
    private static func announce(_ registry: AdapterRegistry) throws -> [String: OpenFile.State?] {
        let files = try registry.directory.names().compactMap { file in name(ofFile: file).map { (file, $0) } }
        let seen = Mutex<[String: OpenFile.State?]>([:])
        DispatchQueue.concurrentPerform(iterations: files.count) { index in
            let (file, name) = files[index]
            let state = registry.announce(name, path: file)
            seen.withLock { $0[file] = .some(state) }
        }
        return seen.withLock { $0 }
    }

    // MARK: Names

    /// The name of the adapter in a file; nil for other, hidden and temporary files.
    static func name(ofFile file: String) -> String? {
        guard file.hasSuffix(".lora") else { return nil }
        let name = String(file.dropLast(".lora".count))
        return isName(name) ? name : nil
    }

    /// Whether an adapter may have this name: it is not hidden, has no `/`, no control characters, and fits a file's name.
    static func isName(_ name: String) -> Bool {
        !name.isEmpty && name.utf8.count <= 250 && !name.hasPrefix(".") && !name.utf8.contains(UInt8(ascii: "/"))
            && !name.unicodeScalars.contains { $0.properties.generalCategory == .control }
    }

    // MARK: Use

    /// Of the base in the map (`BaseFingerprint.fingerprint(of:)`); reading all of the base to know it takes a while.
    var baseFingerprint: String { registry.reader.fingerprint }

    /// Published adapters, by name.
    public var entries: [Entry] {
        let entries = registry.update { table in table.slots.map { Entry(name: $0.key, $0.value) } }
        return entries.sorted { $0.name < $1.name }
    }

    /// Why files of the directory that have no version in service give none, by name.
    public var rejected: [String: String] { registry.update { $0.rejected } }

    /// Bytes of all adapters in memory, those included that only running requests hold any more.
    public var residentBytes: Int { registry.residency.bytes }

    /// The version in service of `name`, loaded first if need be, off the caller's thread.
    public func snapshot(named name: String) async throws(Failure) -> AdapterSnapshot {
        switch registry.update({ $0.plan(name) }) {
        case .take(let snapshot): return snapshot
        case .unknown: throw .unknown(name)
        case .read: break
        }
        return try await withCheckedContinuation { continuation in
            let isFirst = registry.update { $0.wait(for: name) { continuation.resume(returning: $0) } }
            guard isFirst else { return }
            loaders.run { [registry] in
                let result = registry.fetch(name)
                for waiter in registry.update({ $0.takeWaiters(for: name) }) { waiter(result) }
            }
        }.get()
    }

    /// Publishes a file of the directory under a name, as the directory's watcher would.
    /// - Parameters:
    ///   - path: within the directory or a directory in it, not absolute, without `..`.
    ///   - replaces: whether the name may be in service.
    public func load(name: String, path: String, replaces: Bool) async throws(Failure) {
        guard Self.isName(name) else {
            throw .unusable(name: name, reason: "a name has no '/', no control characters, and no '.' in front")
        }
        try await withCheckedContinuation { continuation in
            loaders.run { [registry] in
                continuation.resume(returning: registry.load(name, path: path, replaces: replaces))
            }
        }.get()
    }

    /// Takes `name` out of service until it is loaded again or its file changes. Requests that run keep their version.
    public func unload(name: String) throws(Failure) {
        guard registry.update({ $0.retire(name) }) else { throw .unknown(name) }
    }

    /// Loads `name` and keeps it in memory as long as it is in service.
    public func pin(name: String) async throws(Failure) {
        guard registry.update({ $0.setPinned(name, true) }) else { throw .unknown(name) }
        do throws(Failure) { _ = try await snapshot(named: name) } catch {
            _ = registry.update { $0.setPinned(name, false) }
            throw error
        }
    }

    /// Lets `name` go again when others want its memory.
    public func unpin(name: String) throws(Failure) {
        guard registry.update({ $0.setPinned(name, false) }) else { throw .unknown(name) }
    }
}

extension AdapterStore.Entry {
    fileprivate init(name: String, _ slot: AdapterTable.Slot) {
        self.init(
            name: name, path: slot.path, digest: slot.description.digest, rank: slot.description.rank,
            fileBytes: slot.description.state.size, isLoaded: slot.snapshot != nil, isPinned: slot.isPinned,
            published: slot.published, publishedTime: slot.publishedTime, swaps: slot.swaps,
            failure: slot.failure?.reason)
    }
}
