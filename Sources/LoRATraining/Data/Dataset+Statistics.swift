extension Dataset {
    /// How many examples there are of each number of tokens, in ascending order.
    public func lengths() -> [(tokens: Int, examples: Int)] {
        var counts: [Int: Int] = [:]
        for position in examples.indices { counts[examples.tokenCount(at: position), default: 0] += 1 }
        return counts.sorted { $0.key < $1.key }.map { ($0.key, $0.value) }
    }

    /// Examples that are copies of another one: the same tokens and the same mask. O(n log n).
    public func copyCount() -> Int {
        let hashes = examples.rowHashes().sorted()
        return zip(hashes, hashes.dropFirst()).count { $0 == $1 }
    }

    /// Examples of `other` that are here too.
    public func count(of other: Dataset) -> Int {
        let own = Set(examples.rowHashes())
        return other.examples.rowHashes().count(where: own.contains)
    }
}

extension Dataset.Examples {
    /// Of each example, in their order; copies of a row have the same.
    func rowHashes() -> [UInt64] {
        let all = file.hashes()
        return selection.map { $0.map { all[Int($0)] } } ?? all
    }
}
