import Crypto
import LoRAFormats

/// What is kept of a key: `sha256:<salt>:<SHA-256 of salt and key>`, both in hexadecimal digits.
///
/// Slow hashes are for passwords, which can be guessed. A key is 256 random bits, which no one can guess however fast
/// the hash is, and every request has to be checked against every key. The salt makes one key's hashes in two files
/// differ.
struct KeyHash: Sendable, Equatable {
    private let salt: [UInt8]
    private let digest: [UInt8]

    /// Bytes of a salt.
    static let saltCount = 16

    /// Matches no key.
    static let none = KeyHash(salt: [], digest: [])

    private init(salt: [UInt8], digest: [UInt8]) {
        self.salt = salt
        self.digest = digest
    }

    /// The hash of a key, with a new salt.
    init(of key: String) {
        var random = SystemRandomNumberGenerator()
        let salt = (0..<Self.saltCount).map { _ in UInt8.random(in: .min ... .max, using: &random) }
        self.init(salt: salt, digest: Self.digest(salt, key))
    }

    /// - Returns: nil for a text of another form.
    init?(_ text: String) {
        let parts = text.split(separator: ":", omittingEmptySubsequences: false)
        guard parts.count == 3, parts[0] == "sha256", let salt = Self.bytes(parts[1]),
            let digest = Self.bytes(parts[2]),
            salt.count >= Self.saltCount, salt.count <= 64, digest.count == SHA256.byteCount
        else { return nil }
        self.init(salt: salt, digest: digest)
    }

    var description: String { "sha256:\(Self.hexadecimal(salt)):\(Self.hexadecimal(digest))" }

    /// Whether it is the hash of `key`, in a time that does not depend on the hash.
    func matches(_ key: String) -> Bool {
        let other = Self.digest(salt, key)
        var difference: UInt8 = digest.isEmpty ? 1 : 0
        for (left, right) in zip(digest, other) { difference |= left ^ right }
        return difference == 0
    }

    /// Random bytes in hexadecimal digits, from the system's generator, which is fit for secrets.
    static func randomDigits(bytes count: Int) -> String {
        var random = SystemRandomNumberGenerator()
        return hexadecimal((0..<count).map { _ in UInt8.random(in: .min ... .max, using: &random) })
    }

    private static func digest(_ salt: [UInt8], _ key: String) -> [UInt8] {
        var hash = SHA256()
        hash.update(data: salt)
        hash.update(data: Array(key.utf8))
        return Array(hash.finalize())
    }

    private static func bytes(_ digits: Substring) -> [UInt8]? {
        let digits = Array(digits.utf8)
        guard digits.count.isMultiple(of: 2) else { return nil }
        var bytes: [UInt8] = []
        for index in stride(from: 0, to: digits.count, by: 2) {
            guard let high = Self.value(digits[index]), let low = Self.value(digits[index + 1]) else { return nil }
            bytes.append(high << 4 | low)
        }
        return bytes
    }

    private static func value(_ digit: UInt8) -> UInt8? {
        switch digit {
        case UInt8(ascii: "0")...UInt8(ascii: "9"): digit - UInt8(ascii: "0")
        case UInt8(ascii: "a")...UInt8(ascii: "f"): digit - UInt8(ascii: "a") + 10
        default: nil
        }
    }

    private static func hexadecimal(_ bytes: [UInt8]) -> String {
        bytes.map { byte in
            let digits = String(byte, radix: 16)
            return digits.count == 1 ? "0" + digits : digits
        }
        .joined()
    }
}
