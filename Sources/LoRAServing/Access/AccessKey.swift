/// Who asks, and what they may use.
public struct AccessKey: Sendable, Equatable {
    /// How much a key may ask for; nil for as much as there is.
    public struct Limits: Sendable, Equatable {
        /// Requests that may begin in a minute; as many at once after a minute without any.
        public var requestsPerMinute: Int?
        /// Requests that may run or wait at a time.
        public var concurrentRequests: Int?
        /// Tokens of prompts and answers in a day, which begins with the first request after the last one.
        public var tokensPerDay: Int?

        public init(requestsPerMinute: Int? = nil, concurrentRequests: Int? = nil, tokensPerDay: Int? = nil) {
            self.requestsPerMinute = requestsPerMinute
            self.concurrentRequests = concurrentRequests
            self.tokensPerDay = tokensPerDay
        }
    }

    /// Its name, for logs, metrics and fair shares; empty where there are no keys.
    public let id: String
    /// Whether it may see metrics and load and unload adapters.
    public let isAdmin: Bool
    /// Whether it may use the base without an adapter.
    public let allowsBase: Bool
    /// Names of adapters; "*" stands for any characters, also none.
    public let adapters: [String]
    public let limits: Limits

    let hash: KeyHash
    /// What it has used: shared by all versions of a key.
    let usage: KeyUsage

    init(
        id: String, isAdmin: Bool = false, allowsBase: Bool = true, adapters: [String] = [], limits: Limits = Limits(),
        hash: KeyHash = .none, usage: KeyUsage = KeyUsage()
    ) {
        self.id = id
        self.isAdmin = isAdmin
        self.allowsBase = allowsBase
        self.adapters = adapters
        self.limits = limits
        self.hash = hash
        self.usage = usage
    }

    /// The same key with what an earlier version of it has used.
    func continuing(_ earlier: AccessKey?) -> AccessKey {
        AccessKey(
            id: id, isAdmin: isAdmin, allowsBase: allowsBase, adapters: adapters, limits: limits, hash: hash,
            usage: earlier?.usage ?? usage)
    }

    /// The same key, recognised by another hash.
    func with(_ hash: KeyHash) -> AccessKey {
        AccessKey(
            id: id, isAdmin: isAdmin, allowsBase: allowsBase, adapters: adapters, limits: limits, hash: hash,
            usage: usage)
    }

    /// Whether it may use the adapter of this name, be there one or not.
    public func allows(adapter name: String) -> Bool {
        adapters.contains { Self.matches(Array(name.utf8), pattern: Array($0.utf8)) }
    }

    /// Bytes are compared: names that look alike are different names.
    private static func matches(_ name: [UInt8], pattern: [UInt8]) -> Bool {
        let star = UInt8(ascii: "*")
        // Where both are, and where the last star was with what follows the part of the name that it stands for: only
        // that one need ever be tried again.
        var (place, next) = (0, 0)
        var retry: (afterStar: Int, place: Int)?
        while place < name.count {
            if next < pattern.count, pattern[next] == star {
                next += 1
                retry = (next, place)
            } else if next < pattern.count, pattern[next] == name[place] {
                (place, next) = (place + 1, next + 1)
            } else if let last = retry {
                retry = (last.afterStar, last.place + 1)
                (place, next) = (last.place + 1, last.afterStar)
            } else {
                return false
            }
        }
        return pattern[next...].allSatisfy { $0 == star }
    }

    public static func == (left: AccessKey, right: AccessKey) -> Bool {
        left.id == right.id && left.isAdmin == right.isAdmin && left.allowsBase == right.allowsBase
            && left.adapters == right.adapters && left.limits == right.limits && left.hash == right.hash
    }
}
