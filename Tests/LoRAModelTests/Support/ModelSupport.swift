import Foundation
import LoRAFormats
import Synchronization
import Testing

@testable import LoRAModel

/// Runs `body` with a pool that ends with it.
func withPool<Result>(threads: Int = 2, _ body: (ThreadPool) throws -> Result) rethrows -> Result {
    let pool = ThreadPool(count: threads)
    defer { pool.shutdown() }
    return try body(pool)
}

/// Runs `body` once on each thread of a pool: shares that wait for each other have a thread each.
func onEachThread(of pool: ThreadPool, _ body: () -> Void) {
    let begun = Atomic<Int>(0)
    pool.run { _ in
        body()
        begun.add(1, ordering: .sequentiallyConsistent)
        while begun.load(ordering: .sequentiallyConsistent) < pool.count { sched_yield() }
    }
}

/// Tokens by seed.
func tokens(_ count: Int, seed: UInt64, vocabulary: Int = 160) -> [Int32] {
    var numbers = Numbers(seed)
    return (0..<count).map { _ in Int32(numbers.next() % UInt64(vocabulary)) }
}

/// Tokens of which all from `start` on are supervised.
struct Sample {
    var tokens: [Int32]
    var supervised: [Bool]

    init(_ tokens: [Int32], from start: Int) {
        self.tokens = tokens
        supervised = tokens.indices.map { $0 >= start }
    }

    init(count: Int, from start: Int, seed: UInt64) { self.init(LoRAModelTests.tokens(count, seed: seed), from: start) }
}

extension PackedBatch {
    init(_ samples: [Sample]) {
        self.init()
        for sample in samples { append(tokens: sample.tokens, supervised: sample.supervised) }
    }
}

extension AdapterParameters {
    /// Pairs at every projection of `targets`, A as training starts with it, B uniform in ±`bound`.
    static func random(
        _ model: BaseModel, rank: Int = 4, scale: Float = 2, targets: [TargetModule] = TargetModule.allCases,
        seed: UInt64 = 1, bound: Float = 0.1
    ) -> AdapterParameters {
        let layout = AdapterLayout(configuration: model.configuration) { _, target in
            targets.contains(target) ? (rank, scale) : nil
        }
        let adapter = AdapterParameters(layout: layout)
        adapter.initialize(seed: seed)
        for pair in layout.pairs where bound > 0 {
            let values = TinyModel.uniform(pair.nameB, seed: seed, count: pair.countB, bound: bound)
            (adapter.values + pair.offsetB).update(from: values, count: pair.countB)
        }
        return adapter
    }

    var array: [Float] { Array(UnsafeBufferPointer(start: values, count: layout.parameterCount)) }
}

extension TrainingPass {
    /// Loss and gradients of one batch.
    func lossAndGradients(
        _ batch: PackedBatch, scale: Float = 1, dropoutSeed: UInt64 = 0
    ) -> (loss: Double, gradients: [Float]) {
        var gradients = [Float](repeating: 0, count: adapter.layout.parameterCount)
        let loss = run(batch, gradients: &gradients, scale: scale, dropoutSeed: dropoutSeed)
        return (loss, gradients)
    }
}

extension InferencePass {
    /// The logits of each wanted row, by chunk and row.
    func logits(_ chunks: [Chunk]) -> [[[Float]]] {
        var result = [[[Float]]](repeating: [], count: chunks.count)
        run(chunks) { chunk, _, logits in result[chunk].append(Array(logits)) }
        return result
    }

    /// The logits of all rows of one new sequence.
    func logits(_ tokens: [Int32], adapter: AdapterParameters? = nil) -> [[Float]] {
        let cache = KeyValueCache(configuration: model.configuration)
        return logits([.init(cache: cache, tokens: tokens, adapter: adapter.map(PackedAdapter.init), wanted: .all)])[0]
    }
}

/// The length of the difference relative to the expected length.
func distance(_ actual: [Float], _ expected: [Float]) -> Double {
    precondition(actual.count == expected.count, "\(actual.count) values, \(expected.count) expected")
    let difference = zip(actual, expected).reduce(0.0) { $0 + pow(Double($1.0) - Double($1.1), 2) }
    let length = expected.reduce(0.0) { $0 + Double($1) * Double($1) }
    return (difference / max(length, .leastNormalMagnitude)).squareRoot()
}

/// Largest difference of two lists of logits.
func largestDifference(_ a: [[Float]], _ b: [[Float]]) -> Float {
    precondition(a.count == b.count, "\(a.count) rows, \(b.count) expected")
    return zip(a.joined(), b.joined()).reduce(0) { max($0, abs($1.0 - $1.1)) }
}

/// The message of the error that `body` throws.
func message(sourceLocation: SourceLocation = #_sourceLocation, _ body: () throws -> Void) -> String {
    do {
        try body()
        Issue.record("no error", sourceLocation: sourceLocation)
        return ""
    } catch { return "\(error)" }
}
