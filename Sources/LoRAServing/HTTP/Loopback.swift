/// Names of this machine that no other one can use.
enum Loopback {
    /// Whether `host` is an address of the loopback device, or its well-known name.
    static func isLoopback(host: String) -> Bool {
        if host.lowercased() == "localhost" || host == "::1" { return true }
        let parts = host.split(separator: ".", omittingEmptySubsequences: false)
        return parts.count == 4 && parts[0] == "127" && parts.allSatisfy { UInt8($0) != nil }
    }

    /// The same for `host`, `host:port` and `[address]:port`.
    static func isLoopback(authority: String) -> Bool {
        if authority.hasPrefix("[") {
            guard let end = authority.firstIndex(of: "]") else { return false }
            return isLoopback(host: String(authority[authority.index(after: authority.startIndex)..<end]))
        }
        return isLoopback(host: String(authority.prefix { $0 != ":" }))
    }
}
