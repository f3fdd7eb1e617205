extension Dataset {
    /// How many examples there are of each number of tokens, in ascending order.
    public func lengths() -> [(tokens: Int, examples: Int)] {
        var counts: [Int: Int] = [:]
        for position in examples.indices { counts[examples.tokenCount(at: position), default: 0] += 1 }
        return counts.sorted { $0.key < $1.key }.map { ($0.key, $0.value) }
    }

    /// Examples that are copies of another one: the same tokens and the same mask. O(n log n).
    public func copyCount() -> Int {
        let hashes = rowHashes().sorted()
        return zip(hashes, hashes.dropFirst()).count { $0 == $1 }
    }

    /// Examples of `other` that are here too.
    public func count(of other: Dataset) -> Int {
        let own = Set(rowHashes())
        return other.rowHashes().count(where: own.contains)
    }
}

extension Dataset {
    /// Of each row, in their order; copies of a row have the same.
    func rowHashes() -> [UInt64] {
        let hashes = examples.rowHashes()
        guard form.examplesPerRow == 2 else { return hashes }
        return stride(from: 0, to: hashes.count, by: 2).map { hashes[$0] &* 0x9E37_79B9_7F4A_7C15 ^ hashes[$0 + 1] }
    }
}

extension Dataset.Examples {
    /// Of each example, in their order; copies have the same.
    func rowHashes() -> [UInt64] {
        let all = file.hashes()
        return selection.map { $0.map { all[Int($0)] } } ?? all
    }
}
