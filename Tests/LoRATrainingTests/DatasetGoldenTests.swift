import Testing

/// That tests can rebuild what the goldens' scripts started from.
@Suite("Goldens")
struct DatasetGoldenTests {
    @Test("The formulas give the adapter PyTorch started from")
    func initialValues() throws {
        let golden = try TestFiles.golden("peft_smart_home.json", as: PEFTGolden.self)
        #expect(golden.initialValues.count == 5)
        for (name, expected) in golden.initialValues {
            let values =
                name.contains("lora_A")
                ? GoldenAdapter.a(name: name, seed: golden.seeds.initial, rank: golden.rank, inputs: 576)
                : GoldenAdapter.uniform(
                    name: name, seed: golden.seeds.initial, count: 4, bound: Float(golden.bBound))
            #expect(values.prefix(4).map(Double.init) == expected, "\(name)")
        }
    }

    @Test("The golden has every tensor's gradient and every step's loss")
    func complete() throws {
        let golden = try TestFiles.golden("peft_smart_home.json", as: PEFTGolden.self)
        #expect(golden.gradients.count == 30 * golden.targets.count * 2)
        #expect(golden.run.count == golden.steps)
        for (name, gradient) in golden.gradients {
            #expect(gradient.norm > 0, "\(name)")
            #expect(gradient.projections.count == 16)
            // For random signs the mean square of the projections estimates the square of the norm.
            let square = gradient.projections.reduce(0) { $0 + $1 * $1 } / 16
            #expect((0.05...6).contains(square / (gradient.norm * gradient.norm)), "\(name)")
        }
    }

    @Test("The base's logits are those of 512 tokens")
    func logits() throws {
        let golden = try TestFiles.golden("base_logits.json", as: LogitsGolden.self)
        #expect(golden.ids.count == 512)
        #expect(golden.positions.count == 512)
        for (index, position) in golden.positions.enumerated() {
            #expect(position.best <= position.logSumExp)
            #expect(position.sampled.count == golden.samples)
            for (id, logit) in zip(golden.sampledIDs(position: index), position.sampled) {
                #expect(logit <= position.best + 1e-4)
                #expect(id != position.bestID || abs(logit - position.best) < 1e-3)
            }
        }
    }
}
