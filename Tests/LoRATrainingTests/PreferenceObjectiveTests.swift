import Foundation
import LoRAModel
import TestSupport
import OrderedCollections
import Testing

@testable import LoRATraining

@Suite("Preference objectives", .serialized)
struct PreferenceObjectiveTests {
    let model: BaseModel
    static let objectives: [Objective] = [.dpo, .orpo]

    init() throws { model = try TrainerModel.make() }

    /// Pairs whose texts begin with the same six tokens, a prompt of their own after them.
    static let pairs = (0..<5).map { index in
        func draws(_ count: Int, _ seed: Int) -> [Int32] {
            (0..<count).map {
                Int32(GoldenAdapter.splitMix(UInt64(seed), $0) % UInt64(TrainerModel.vocabulary))
            }
        }
        let prompt = draws(6, 7) + draws(3 + 2 * index, 100 + index)
        func example(_ answer: [Int32]) -> Example {
            let tokens = prompt + answer
            return Example(tokens: tokens, supervised: tokens.indices.map { $0 >= prompt.count }, line: index + 1)
        }
        return PreferencePair(
            chosen: example(draws(4 + index, 200 + index)), rejected: example(draws(9 - index, 300 + index)))
    }

    /// An adapter at every projection; B is zero, or filled by formula.
    func adapter(bBound: Float = 0) -> AdapterParameters {
        let layout = AdapterLayout(configuration: model.configuration) { _, _ in (4, 2) }
        let adapter = AdapterParameters(layout: layout)
        adapter.initialize(seed: 1)
        for pair in layout.pairs where bBound > 0 {
            let values = GoldenAdapter.uniform(name: pair.nameB, seed: 1, count: pair.countB, bound: bBound)
            (adapter.values + pair.offsetB).update(from: values, count: pair.countB)
        }
        return adapter
    }

    func withPass<Result>(
        _ adapter: AdapterParameters, rows: Int = 256, dropout: Float = 0, threads: Int = 1,
        _ body: (TrainingPass, ThreadPool) throws -> Result
    ) throws -> Result {
        let pool = ThreadPool(count: threads)
        defer { pool.shutdown() }
        let pass = try TrainingPass(
            model: model, adapter: adapter, pool: pool,
            plan: .init(compute: .f32, rows: rows, positions: 64, dropout: dropout))
        return try body(pass, pool)
    }

    func gradients(_ objective: PreferenceObjective, _ pass: TrainingPass) -> (StepOutcome, [Float]) {
        var gradients = [Float](repeating: 0, count: pass.adapter.layout.parameterCount)
        let outcome = objective.gather(Self.pairs, pass: pass, gradients: &gradients) { _ in 0 }
        return (outcome, gradients)
    }

    func evaluate(_ objective: PreferenceObjective, _ pass: TrainingPass) throws -> StepOutcome {
        try #require(objective.evaluate(Self.pairs, pass: pass))
    }

    func norm(_ values: [Float]) -> Double { values.reduce(0.0) { $0 + Double($1) * Double($1) }.squareRoot() }

    @Test("Gradients are the differences of the loss that is reported", arguments: objectives)
    func differences(kind: Objective) throws {
        let adapter = adapter(bBound: 0.1)
        // The reference is another model than the one at hand, or DPO's loss would have one slope for all pairs.
        let objective = PreferenceObjective(kind, beta: 0.5, initial: self.adapter())
        try withPass(adapter) { pass, _ in
            let (outcome, gradients) = gradients(objective, pass)
            let evaluated = try evaluate(objective, pass).loss
            #expect(abs(outcome.loss - evaluated) <= 1e-6 * outcome.loss)
            let kept = (0..<gradients.count).map { adapter.values[$0] }
            func along(_ direction: [Float], _ step: Double) throws -> Double {
                for index in kept.indices { adapter.values[index] = kept[index] + Float(step) * direction[index] }
                return try evaluate(objective, pass).loss
            }
            for pair in adapter.layout.pairs {
                for range in [pair.offset..<pair.offsetB, pair.offsetB..<pair.offsetRowFactors] {
                    let length = norm(Array(gradients[range]))
                    #expect(length > 1e-3, "the gradient must be there to be compared")
                    var direction = [Float](repeating: 0, count: kept.count)
                    for index in range { direction[index] = Float(Double(gradients[index]) / length) }
                    // Sums near 50 in f32 leave noise of 1e-5 in a loss, 1e-5 / 2^-6 in a difference.
                    let slope = try (along(direction, 0x1p-7) - along(direction, -0x1p-7)) / 0x1p-6
                    #expect(abs(slope - length) <= 1e-3 + 5e-3 * length, "\(pair.nameA): \(length), \(slope)")
                }
            }
        }
    }

    @Test("Neither loss nor gradients depend on how pairs are cut into passes", arguments: objectives)
    func passes(kind: Objective) throws {
        func gathered(rows: Int, threads: Int) throws -> (StepOutcome, [Float]) {
            let adapter = adapter(bBound: 0.1)
            let objective = PreferenceObjective(kind, beta: 0.5, initial: self.adapter())
            return try withPass(adapter, rows: rows, threads: threads) { pass, _ in gradients(objective, pass) }
        }
        let whole = try gathered(rows: 256, threads: 2)
        for rows in [48, 90] {
            let part = try gathered(rows: rows, threads: 1)
            #expect(abs(part.0.loss - whole.0.loss) <= 1e-5 * whole.0.loss)
            #expect(norm(zip(part.1, whole.1).map { $0 - $1 }) < 1e-4 * norm(whole.1))
            for (name, value) in whole.0.metrics {
                #expect(abs((part.0.metrics[name] ?? .nan) - value) <= 1e-4 * max(1, abs(value)), "\(name)")
            }
        }
        #expect(whole.0.supervisedTokens == Self.pairs.reduce(0) { $0 + $1.supervisedCount })
        #expect(whole.0.tokens == Self.pairs.reduce(0) { $0 + $1.tokenCount })
    }

    @Test("DPO's reference is the model the run began with, bit for bit", arguments: [0, 0.1] as [Float])
    func reference(bBound: Float) throws {
        let lock = VariantLock.shared()
        defer { lock.release() }
        let adapter = adapter(bBound: bBound)
        let objective = PreferenceObjective(.dpo, beta: 0.3, initial: adapter)
        try withPass(adapter, rows: 60, threads: 2) { pass, pool in
            let trainer = Trainer(pass: pass, pool: pool, weightDecay: 0, maximumGradientNorm: 1, seed: 0)
            let first = try trainer.step(Self.pairs, objective: objective, learningRate: 0.02)
            #expect(abs(first.loss - log(2)) < 1e-12)
            #expect(first.outcome.metrics["rewards/margins"] == 0 && first.outcome.metrics["rewards/accuracies"] == 0)
            for _ in 0..<20 { _ = try trainer.step(Self.pairs, objective: objective, learningRate: 0.02) }
            let last = try evaluate(objective, pass)
            #expect(last.loss < 0.1, "\(last.loss)")
            #expect(last.metrics["rewards/accuracies"] == 1)
            // What was learned shows against what the run began with, not against the base.
            let again = try evaluate(PreferenceObjective(.dpo, beta: 0.3, initial: adapter), pass)
            #expect(again.metrics["rewards/margins"] == 0)
        }
    }

    @Test("ORPO learns the chosen answers and leaves the rejected behind")
    func orpo() throws {
        let adapter = adapter()
        let objective = PreferenceObjective(.orpo, beta: 0.1, initial: adapter)
        try withPass(adapter) { pass, pool in
            let trainer = Trainer(pass: pass, pool: pool, weightDecay: 0, maximumGradientNorm: 1, seed: 0)
            let before = try evaluate(objective, pass)
            for _ in 0..<60 { _ = try trainer.step(Self.pairs, objective: objective, learningRate: 0.02) }
            let after = try evaluate(objective, pass)
            #expect(after.loss < before.loss / 3, "\(before.loss) became \(after.loss)")
            let value = { (name: String, outcome: StepOutcome) in outcome.metrics[name] ?? .nan }
            #expect(value("nll_loss", after) < value("nll_loss", before) / 3)
            #expect(value("logps/chosen", after) > value("logps/chosen", before))
            #expect(value("rewards/accuracies", after) == 1)
        }
    }

    @Test("Dropout changes a step by its seed alone, and no evaluation", arguments: objectives)
    func dropout(kind: Objective) throws {
        let lock = VariantLock.shared()
        defer { lock.release() }
        func run(seed: UInt64) throws -> ([Float], Double) {
            let adapter = adapter(bBound: 0.1)
            let objective = PreferenceObjective(kind, beta: 0.1, initial: adapter)
            return try withPass(adapter, rows: 60, dropout: 0.3, threads: 2) { pass, pool in
                let evaluated = try evaluate(objective, pass).loss
                let trainer = Trainer(pass: pass, pool: pool, weightDecay: 0, maximumGradientNorm: 1, seed: seed)
                for _ in 0..<2 { _ = try trainer.step(Self.pairs, objective: objective, learningRate: 0.01) }
                return ((0..<adapter.layout.parameterCount).map { adapter.values[$0] }, evaluated)
            }
        }
        let (first, again, other) = (try run(seed: 1), try run(seed: 1), try run(seed: 2))
        #expect(first == again)
        #expect(first.0 != other.0 && first.1 == other.1)
    }

    @Test("An evaluation that is interrupted gives nothing")
    func interruption() throws {
        let adapter = adapter()
        let objective = PreferenceObjective(.dpo, beta: 0.1, initial: adapter)
        try withPass(adapter, rows: 48) { pass, _ in
            for passes in 0..<4 {
                var asked = 0
                let outcome = objective.evaluate(Self.pairs, pass: pass) {
                    asked += 1
                    return asked > passes
                }
                #expect(outcome == nil && asked == passes + 1)
            }
            // Of each batch there is a pass of the reference and one of the model.
            let batches = PairBatch.packing(
                Self.pairs, capacity: pass.capacity, learningPrompts: false, sharingPrefix: true)
            var asked = 0
            let outcome = objective.evaluate(Self.pairs, pass: pass) {
                asked += 1
                return false
            }
            #expect(outcome != nil && asked == 2 * batches.count)
        }
    }

    @Test("Losses stay finite where answers are certain or impossible")
    func extremes() {
        for (chosen, rejected) in [(0.0, -1e6), (-1e6, 0), (0, 0), (-1e-30, -1e-30)] {
            let losses = [
                PreferenceLoss.dpo(policy: (chosen, rejected), reference: (rejected, chosen), beta: 1),
                .orpo(sums: (chosen, rejected), tokens: (3, 5), beta: 1),
            ]
            for loss in losses {
                #expect(loss.loss.isFinite && loss.loss >= 0)
                #expect(loss.slopes.chosen.isFinite && loss.slopes.chosen <= 0)
                #expect(loss.slopes.rejected.isFinite && loss.slopes.rejected >= 0)
            }
        }
    }

    @Test("Both answers of a pair are in one batch, and what all texts of a batch begin with is there once")
    func packing() {
        let rows = Self.pairs.map { PairBatch.rows($0) }
        for capacity in [48, 70, 200] {
            let apart = PairBatch.packing(
                Self.pairs, capacity: capacity, learningPrompts: false, sharingPrefix: false)
            #expect(apart.flatMap(\.pairs) == Self.pairs)
            #expect(
                apart.map(\.batch.tokens.count)
                    == apart.map { $0.pairs.count }.reduce(into: (0, [Int]())) {
                        $0.1.append(rows[$0.0..<$0.0 + $1].reduce(0, +))
                        $0.0 += $1
                    }.1)
            let shared = PairBatch.packing(Self.pairs, capacity: capacity, learningPrompts: false, sharingPrefix: true)
            #expect(shared.flatMap(\.pairs) == Self.pairs)
            #expect(shared.allSatisfy { $0.batch.prefixCount >= 6 && $0.batch.tokens.count <= capacity })
            #expect(shared.count <= apart.count)
            for batch in shared + apart {
                for (place, pair) in zip(batch.targets, batch.pairs) {
                    #expect(Array(batch.batch.targets[place.chosen]) == pair.chosen.tokens.suffix(place.chosen.count))
                    #expect(place.chosen.count == pair.chosen.supervisedCount)
                    #expect(place.rejected.count == pair.rejected.supervisedCount)
                }
                #expect(batch.isAnswer.allSatisfy { $0 } && batch.isAnswer.count == batch.batch.targets.count)
            }
        }
        // A long pair alone in its pass computes its prompt once.
        let alone = PairBatch.packing([Self.pairs[4]], capacity: 48, learningPrompts: false, sharingPrefix: true)
        let prompt = Self.pairs[4].chosen.tokens.count - Self.pairs[4].chosen.supervisedCount
        #expect(alone.map(\.batch.prefixCount) == [prompt - 1])
    }

    @Test("Where prompts are learned, they are the chosen text's alone, and no part of its answer")
    func learnedPrompts() {
        let batches = PairBatch.packing(Self.pairs, capacity: 200, learningPrompts: true, sharingPrefix: true)
        for (place, pair) in batches.flatMap({ batch in zip(batch.targets, batch.pairs) }) {
            #expect(place.chosen.count == pair.chosen.tokens.count - 1)
            #expect(place.rejected.count == pair.rejected.supervisedCount)
        }
        for batch in batches {
            #expect(batch.batch.prefixCount == 0)
            #expect(batch.isAnswer.count(where: { $0 }) == batch.pairs.reduce(0) { $0 + $1.supervisedCount })
        }
    }
}
