public import LoRAModel

/// The adapters of a directory, by name: watched, loaded when they are asked for, swapped while requests run.
public final class AdapterStore: Sendable {
    /// A published adapter.
    public struct Entry: Sendable {
        /// The file's name without `.lora`.
        public var name: String
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
        /// No adapter has this name.
        case unknown(String)
        /// `load` of a name that is in service without `replaces`.
        case alreadyLoaded(String)
        /// A path that leaves the directory, or is no path.
        case badPath(String)
        /// The file cannot be used; the reason names no path of the server.
        case unusable(name: String, reason: String)
    }

    public init(directory: String, base: BaseModel, maximumBytes: Int) throws {}

    /// Published adapters, by name.
    public var entries: [Entry] { [] }

    /// The version in service of `name`, loaded first if need be, off the caller's thread.
    public func snapshot(named name: String) async throws(Failure) -> AdapterSnapshot { throw .unknown(name) }
}
