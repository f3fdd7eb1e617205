import LoRAModel
import TestSupport
import Testing

@testable import LoRATraining

@Suite("Trainer", .serialized)
struct TrainerTests {
    let model: BaseModel

    init() throws { model = try TrainerModel.make() }

    /// Examples of different lengths; the first half of each is a prompt.
    static let examples = (0..<8).map { index in
        let tokens = (0..<6 + 3 * index).map { place in
            Int32(GoldenAdapter.splitMix(UInt64(index), place) % UInt64(TrainerModel.vocabulary))
        }
        return Example(tokens: tokens, supervised: tokens.indices.map { $0 >= tokens.count / 2 }, line: index + 1)
    }

    func adapter(seed: UInt64 = 1) -> AdapterParameters {
        let layout = AdapterLayout(configuration: model.configuration) { _, _ in (4, 2) }
        let adapter = AdapterParameters(layout: layout)
        adapter.initialize(seed: seed)
        return adapter
    }

    func values(_ adapter: AdapterParameters) -> [Float] {
        Array(UnsafeBufferPointer(start: adapter.values, count: adapter.layout.parameterCount))
    }

    func withTrainer<Result>(
        _ adapter: AdapterParameters, rows: Int = 256, dropout: Float = 0, maximumNorm: Float = 1,
        weightDecay: Float = 0, seed: UInt64 = 0, threads: Int = 1, _ body: (Trainer) throws -> Result
    ) throws -> Result {
        let pool = ThreadPool(count: threads)
        defer { pool.shutdown() }
        let pass = try TrainingPass(
            model: model, adapter: adapter, pool: pool,
            plan: .init(compute: .f32, rows: rows, positions: 64, dropout: dropout))
        return try body(
            Trainer(pass: pass, pool: pool, weightDecay: weightDecay, maximumGradientNorm: maximumNorm, seed: seed))
    }

    func norm(_ values: [Float]) -> Double { values.reduce(0.0) { $0 + Double($1) * Double($1) }.squareRoot() }

    @Test("A step's loss and gradients do not depend on how it is cut into passes", arguments: [27, 40, 90])
    func passes(rows: Int) throws {
        func step(_ rows: Int) throws -> (StepReport, [Float]) {
            let adapter = adapter()
            return try withTrainer(adapter, rows: rows) { trainer in
                // The second step has gradients of A as well.
                _ = try trainer.step(Self.examples, learningRate: 0.01)
                let report = try trainer.step(Self.examples, learningRate: 0.01)
                let count = adapter.layout.parameterCount
                return (report, Array(UnsafeBufferPointer(start: trainer.lastGradients, count: count)))
            }
        }
        let (whole, part) = (try step(256), try step(rows))
        #expect(abs(part.0.loss - whole.0.loss) <= 1e-6 * whole.0.loss)
        #expect(abs(part.0.gradientNorm - whole.0.gradientNorm) <= 1e-4 * whole.0.gradientNorm)
        #expect(norm(zip(part.1, whole.1).map { $0 - $1 }) < 1e-4 * norm(whole.1))
        #expect(part.0.supervisedTokens == Self.examples.reduce(0) { $0 + $1.supervisedCount })
        #expect(part.0.tokens == Self.examples.reduce(0) { $0 + $1.tokens.count })
        #expect(part.0.step == 2)
    }

    @Test("A step's loss is the mean over its supervised tokens, not over its examples")
    func mean() throws {
        let adapter = adapter()
        try withTrainer(adapter, rows: 27) { trainer in
            let each = Self.examples.map { Evaluation.loss([$0], pass: trainer.pass) }
            let all = Evaluation.loss(Self.examples, pass: trainer.pass)
            let sum = each.reduce(0) { $0 + $1.sum }
            #expect(abs(all.sum - sum) <= 1e-6 * sum)
            #expect(all.supervisedTokens == Self.examples.reduce(0) { $0 + $1.supervisedCount })
            let report = try trainer.step(Self.examples, learningRate: 0)
            #expect(abs(report.loss - all.mean) <= 1e-6 * all.mean)
            let meanOfMeans = each.reduce(0) { $0 + $1.mean } / Double(each.count)
            #expect(abs(report.loss - meanOfMeans) > 1e-3)
        }
        #expect(Evaluation.Loss(sum: 0, supervisedTokens: 0).mean == 0)
    }

    @Test("Gradients longer than the maximum are scaled to it; 0 is no maximum")
    func clipping() throws {
        let lock = VariantLock.shared()
        defer { lock.release() }
        // AdamW's first step is the same for every gradient but for epsilon, so the second tells them apart.
        func train(_ maximum: Float) throws -> (norms: [Double], values: [Float]) {
            let adapter = adapter()
            return try withTrainer(adapter, maximumNorm: maximum) { trainer in
                var norms: [Double] = []
                for count in [2, 8, 1] {
                    norms.append(
                        try trainer.step(Array(Self.examples.prefix(count)), learningRate: 0.01).gradientNorm)
                }
                return (norms, values(adapter))
            }
        }
        let free = try train(0)
        let largest = try #require(free.norms.max())
        #expect(try train(Float(largest) * 4).values == free.values)
        #expect(try train(Float(largest) / 4).values != free.values)
        #expect(try train(Float(largest) / 4).norms[0] == free.norms[0], "the norm is reported before clipping")
    }

    @Test("A loss that is no number stops training and leaves the adapter as it was")
    func diverged() throws {
        let lock = VariantLock.shared()
        defer { lock.release() }
        let adapter = adapter()
        try withTrainer(adapter) { trainer in
            _ = try trainer.step(Self.examples, learningRate: 0.01)
            let place = adapter.layout.pairs[3].offset
            let (kept, before) = (adapter.values[place], values(adapter))
            adapter.values[place] = .infinity
            do {
                _ = try trainer.step(Self.examples, learningRate: 0.01)
                Issue.record("no error")
            } catch let error as TrainingError {
                #expect(error.description.hasPrefix("training diverged at step 2: loss "))
                #expect(!error.description.contains("\n"))
                switch error {
                case .diverged(let step, let loss, _): #expect(step == 2 && !loss.isFinite)
                }
            }
            adapter.values[place] = kept
            #expect(values(adapter) == before)
            // It is as if the step had never been tried.
            #expect(try trainer.step(Self.examples, learningRate: 0.01).step == 2)
        }
        let untroubled = self.adapter()
        try withTrainer(untroubled) { trainer in
            for _ in 0..<2 { _ = try trainer.step(Self.examples, learningRate: 0.01) }
        }
        #expect(values(adapter) == values(untroubled))
    }

    @Test("The same run gives the same adapter bit for bit, with dropout by its seed")
    func reproducible() throws {
        let lock = VariantLock.shared()
        defer { lock.release() }
        func train(dropout: Float, seed: UInt64) throws -> ([Double], [Float]) {
            let adapter = adapter()
            return try withTrainer(adapter, rows: 40, dropout: dropout, weightDecay: 0.01, seed: seed, threads: 2) {
                trainer in
                let losses = try (0..<3).map { _ in try trainer.step(Self.examples, learningRate: 0.01).loss }
                return (losses, values(adapter))
            }
        }
        for dropout in [0, 0.2] as [Float] {
            let (first, again) = (try train(dropout: dropout, seed: 1), try train(dropout: dropout, seed: 1))
            #expect(first.0 == again.0)
            #expect(first.1 == again.1)
            let other = try train(dropout: dropout, seed: 2)
            #expect((other.1 == first.1) == (dropout == 0))
        }
    }

    @Test("A few examples are learned by heart")
    func learns() throws {
        let adapter = adapter()
        try withTrainer(adapter) { trainer in
            let before = Evaluation.loss(Self.examples, pass: trainer.pass).mean
            for _ in 0..<60 { _ = try trainer.step(Self.examples, learningRate: 0.02) }
            let after = Evaluation.loss(Self.examples, pass: trainer.pass).mean
            #expect(after < before / 10, "\(before) became \(after)")
        }
    }

    @Test("Examples are packed in order, as many as fit")
    func packing() {
        let examples = Self.examples
        let rows = examples.map { PackedBatch.rowsNeeded(supervised: $0.supervised) }
        for capacity in [27, 30, 61, 200] {
            let batches = PackedBatch.packing(examples, capacity: capacity, sharingPrefix: false)
            #expect(batches.flatMap(\.segments).map(\.count) == rows)
            #expect(batches.allSatisfy { !$0.tokens.isEmpty && $0.tokens.count <= capacity })
            for (batch, next) in zip(batches, batches.dropFirst()) {
                #expect(batch.tokens.count + next.segments[0].count > capacity)
            }
        }
        #expect(PackedBatch.packing([], capacity: 1, sharingPrefix: false).isEmpty)
    }

    @Test("Tokens that all examples of a step begin with are computed once in each pass")
    func sharedPrefix() {
        let examples = (0..<6).map { index in
            let rest = (0..<8).map { Int32(100 + 10 * index + $0) }
            let tokens = Array(1...12) + rest
            return Example(tokens: tokens, supervised: tokens.indices.map { $0 > 14 }, line: index + 1)
        }
        // 12 rows of prefix, then 7 of each example: its last token predicts nothing.
        for (capacity, batches) in [(100, 1), (40, 2), (27, 3)] {
            let shared = PackedBatch.packing(examples, capacity: capacity, sharingPrefix: true)
            #expect(shared.count == batches)
            #expect(shared.allSatisfy { $0.prefixCount == 12 && $0.tokens.starts(with: 1...12) })
            #expect(shared.map { $0.tokens.count - 12 }.reduce(0, +) == 6 * 7)
            let apart = PackedBatch.packing(examples, capacity: capacity, sharingPrefix: false)
            #expect(shared.flatMap(\.targets) == apart.flatMap(\.targets))
        }
    }

    @Test("A prefix is not shared beyond what is unsupervised, nor when it is a few tokens")
    func unsharedPrefix() {
        let tokens = Array(Int32(1)...20)
        func prefix(supervisedFrom first: Int) -> Int? {
            let example = Example(tokens: tokens, supervised: tokens.indices.map { $0 >= first }, line: 1)
            return PackedBatch.packing([example, example], capacity: 100, sharingPrefix: true).first?.prefixCount
        }
        #expect(prefix(supervisedFrom: 15) == 14)
        #expect(prefix(supervisedFrom: 5) == 4)
        #expect(prefix(supervisedFrom: 4) == 0)
        #expect(prefix(supervisedFrom: 1) == 0)
    }
}
