/// Token ids by the exact UTF-8 bytes of their text.
///
/// A `[String: Int32]` would not do: Swift compares strings by canonical equivalence, and two tokens may differ in
/// nothing but their normal form. Hashing is the standard library's seeded SipHash, so a file cannot force collisions.
package struct TokenTable: Sendable {
    /// Texts of all tokens, end to end; token `id` is `bytes[offsets[id]..<offsets[id + 1]]`.
    private var bytes: [UInt8] = []
    private var offsets: [Int] = [0]
    /// Open addressing with linear probing, at most half full; -1 is free.
    private var slots: [Int32]
    let longest: Int

    /// When two tokens have the same text, the first one is found.
    package init(_ tokens: [String]) {
        var capacity = 16
        while capacity < tokens.count * 2 { capacity *= 2 }
        slots = [Int32](repeating: -1, count: capacity)
        offsets.reserveCapacity(tokens.count + 1)
        var longest = 0
        for token in tokens {
            bytes.append(contentsOf: token.utf8)
            longest = max(longest, bytes.count - offsets[offsets.count - 1])
            offsets.append(bytes.count)
        }
        self.longest = longest
        bytes.withUnsafeBytes { all in
            for id in tokens.indices {
                let text = UnsafeRawBufferPointer(rebasing: all[offsets[id]..<offsets[id + 1]])
                let slot = Self.slot(of: text, among: slots, all: all, offsets: offsets)
                if slots[slot] < 0 { slots[slot] = Int32(id) }
            }
        }
    }

    package func id(of text: UnsafeRawBufferPointer) -> Int32? {
        let id = bytes.withUnsafeBytes { slots[Self.slot(of: text, among: slots, all: $0, offsets: offsets)] }
        return id < 0 ? nil : id
    }

    package func id(of text: String) -> Int32? {
        var text = text
        return text.withUTF8 { id(of: UnsafeRawBufferPointer($0)) }
    }

    /// The slot that holds `text`, or the free one where it belongs.
    private static func slot(
        of text: UnsafeRawBufferPointer, among slots: [Int32], all: UnsafeRawBufferPointer, offsets: [Int]
    ) -> Int {
        var hasher = Hasher()
        hasher.combine(bytes: text)
        var slot = hasher.finalize() & (slots.count - 1)
        while slots[slot] >= 0 {
            let id = Int(slots[slot])
            let candidate = all[offsets[id]..<offsets[id + 1]]
            if candidate.count == text.count && candidate.elementsEqual(text) { return slot }
            slot = (slot + 1) & (slots.count - 1)
        }
        return slot
    }
}
