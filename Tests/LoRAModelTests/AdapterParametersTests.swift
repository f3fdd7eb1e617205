import LoRAFormats
import OrderedCollections
import Testing

@testable import LoRAModel

extension KernelTests {
    @Suite("Adapter parameters")
    struct AdapterParametersTests {
        let model: BaseModel

        init() throws { model = try TinyModel(heads: 4, keyValueHeads: 2).make() }

        /// The file of an adapter whose tensors are `adapter`'s.
        func file(
            _ adapter: AdapterParameters, type: SafetensorsType = .f32, configuration: AdapterConfiguration? = nil
        ) throws -> AdapterFile {
            let configuration =
                configuration
                ?? AdapterConfiguration(
                    rank: 4, alpha: 8,
                    targetModules: .names(Set(adapter.layout.pairs.map(\.target.rawValue)).sorted()))
            return try AdapterFile(
                configuration: configuration,
                record: .init(domain: "d", baseFingerprint: nil, rank: 4, alpha: 8, targets: []),
                tensors: adapter.tensors(configuration: model.configuration, type: type))
        }

        @Test("A and B come back from a file bit for bit in f32")
        func roundTrip() throws {
            let adapter = AdapterParameters.random(model)
            let again = try AdapterParameters(file: file(adapter), configuration: model.configuration)
            #expect(again.layout == adapter.layout)
            #expect(again.array == adapter.array)
        }

        @Test("Shorter floats lose no more than their precision", arguments: [SafetensorsType.bf16, .f16])
        func rounded(type: SafetensorsType) throws {
            let adapter = AdapterParameters.random(model)
            let again = try AdapterParameters(file: file(adapter, type: type), configuration: model.configuration)
            let unit: Float = type == .bf16 ? 0x1p-8 : 0x1p-11
            // Below 2^-14 halves are spaced evenly.
            for (value, exact) in zip(again.array, adapter.array) {
                #expect(abs(value - exact) <= max(unit * abs(exact), 0x1p-25))
            }
            #expect(again.array != adapter.array)
            let twice = try AdapterParameters(file: file(again, type: type), configuration: model.configuration)
            #expect(twice.array == again.array)
        }

        @Test("Rows of B of q and k are permuted as converters permute W; the others are not")
        func permutation() throws {
            let adapter = AdapterParameters.random(model)
            let tensors = try adapter.tensors(configuration: model.configuration, type: .f32)
            for pair in adapter.layout.pairs {
                let B = try #require(tensors.first { $0.name == pair.nameB })
                let A = try #require(tensors.first { $0.name == pair.nameA })
                let inFile = B.bytes.withUnsafeBytes { Array($0.bindMemory(to: Float.self)) }
                let own = Array(adapter.array[pair.offsetB..<pair.end])
                switch pair.target {
                case .queryProjection, .keyProjection:
                    let heads = pair.target == .queryProjection ? 4 : 2
                    #expect(TinyModel.permuted(inFile, heads: heads, columns: pair.rank) == own)
                    #expect(inFile != own)
                default: #expect(inFile == own)
                }
                #expect(
                    A.bytes.withUnsafeBytes { Array($0.bindMemory(to: Float.self)) }
                        == Array(adapter.array[pair.offset..<pair.offsetB]))
            }
        }

        @Test("By hand: two heads of four rows")
        func permutationByHand() throws {
            // reshape(H = 2, 2, D/2 = 2).swap(1, 2) of the rows 0…7.
            let rows = (0..<8).map { Float($0) }
            #expect(TinyModel.permuted(rows, heads: 2, columns: 1) == [0, 2, 1, 3, 4, 6, 5, 7])
        }

        @Test("A starts uniform in ±1/sqrt(in) from a stream of its name, B from zero")
        func initialize() throws {
            let adapter = AdapterParameters.random(model, bound: 0.1)
            adapter.initialize(seed: 3)
            for pair in adapter.layout.pairs {
                let bound = 1 / Float(pair.inputs).squareRoot()
                let expected = TinyModel.uniform(pair.nameA, seed: 3, count: pair.countA, bound: bound)
                #expect(Array(adapter.array[pair.offset..<pair.offsetB]) == expected)
                #expect(adapter.array[pair.offsetB..<pair.end].allSatisfy { $0 == 0 })
                #expect(expected.allSatisfy { abs($0) <= bound } && expected.contains { abs($0) > 0.95 * bound })
            }
            let other = AdapterParameters(layout: adapter.layout)
            other.initialize(seed: 4)
            #expect(other.array != adapter.array)
        }

        @Test("Every tensor that is missing, surplus or misshapen is in one error")
        func misfits() throws {
            let adapter = AdapterParameters.random(model, targets: [.queryProjection, .downProjection])
            var tensors = try adapter.tensors(configuration: model.configuration, type: .f32)
            let gone = tensors.remove(at: 0)
            let bent = tensors.remove(at: 2)
            tensors.append(try NamedTensor(name: bent.name, type: .f32, shape: [2, 3], elements: [1, 2, 3, 4, 5, 6]))
            tensors.append(try NamedTensor(name: "stray.weight", type: .f32, shape: [1], elements: [1]))
            let configuration = AdapterConfiguration(
                rank: 4, alpha: 8, targetModules: .names(["q_proj", "down_proj"]))
            let file = try AdapterFile(
                configuration: configuration,
                record: .init(domain: "d", baseFingerprint: nil, rank: 4, alpha: 8, targets: []), tensors: tensors)
            let text = message { _ = try AdapterParameters(file: file, configuration: model.configuration) }
            #expect(text.contains("missing \(gone.name)"))
            #expect(text.contains("\(bent.name) has shape [2, 3], expected \(bent.shape)"))
            #expect(text.contains("unexpected stray.weight"))
            #expect(!text.contains("\n"))
        }

        @Test("Values that are no numbers are refused", arguments: [Float.nan, .infinity])
        func notFinite(value: Float) throws {
            let adapter = AdapterParameters.random(model, targets: [.keyProjection])
            adapter.values[adapter.layout.pairs[1].offsetB + 5] = value
            let file = try file(adapter)
            let text = message { _ = try AdapterParameters(file: file, configuration: model.configuration) }
            #expect(text.contains("layers.1.self_attn.k_proj.lora_B.weight holds values that are not finite"))
        }

        @Test("An adapter of another base is refused with both fingerprints, unless it may be")
        func otherBase() throws {
            let adapter = AdapterParameters.random(model, targets: [.keyProjection])
            let configuration = AdapterConfiguration(rank: 4, alpha: 8, targetModules: .names(["k_proj"]))
            let stranger = String(repeating: "ab", count: 32)
            for (fingerprint, fits) in [(stranger, false), (BaseFingerprint.fingerprint(of: model.file), true)] {
                let file = try AdapterFile(
                    configuration: configuration,
                    record: .init(domain: "d", baseFingerprint: fingerprint, rank: 4, alpha: 8, targets: []),
                    tensors: adapter.tensors(configuration: model.configuration, type: .f32))
                let load = { (allows: Bool) in
                    try file.parameters(for: model, path: "x.lora", allowsOtherBase: allows)
                }
                #expect(try load(true).array == adapter.array)
                guard !fits else {
                    #expect(try load(false).array == adapter.array)
                    continue
                }
                let text = message { _ = try load(false) }
                #expect(text.hasPrefix("x.lora: ") && text.contains(stranger))
                #expect(text.contains(BaseFingerprint.fingerprint(of: model.file)))
            }
        }

        // MARK: Which modules, with which rank and scale

        func layout(_ change: (inout AdapterConfiguration) -> Void) throws -> AdapterLayout {
            var configuration = AdapterConfiguration(rank: 4, alpha: 8, targetModules: .allLinear)
            change(&configuration)
            return AdapterLayout(
                configuration: model.configuration, matcher: try AdapterModuleMatcher(configuration))
        }

        func names(_ layout: AdapterLayout) -> [String] {
            layout.pairs.map { "\($0.block).\($0.target.rawValue)" }
        }

        @Test("Modules by name, expression, exclusion and layer")
        func matching() throws {
            #expect(try layout { _ in }.pairs.count == 14)
            #expect(
                try names(layout { $0.targetModules = .names(["q_proj", "mlp.up_proj"]) })
                    == ["0.q_proj", "0.up_proj", "1.q_proj", "1.up_proj"])
            #expect(try names(layout { $0.targetModules = .names(["proj"]) }) == [])
            #expect(
                try names(layout { $0.targetModules = .names(["model.layers.1.self_attn.k_proj"]) }) == ["1.k_proj"])
            #expect(
                try names(layout { $0.targetModules = .pattern(".*layers\\.0.*(k|v)_proj") })
                    == ["0.k_proj", "0.v_proj"])
            #expect(try names(layout { $0.targetModules = .pattern("k_proj") }) == [])
            #expect(
                try names(
                    layout {
                        $0.layers = [1]
                        $0.excludedModules = .names(["mlp.gate_proj", "self_attn.o_proj", "up_proj"])
                    }) == ["1.q_proj", "1.k_proj", "1.v_proj", "1.down_proj"])
        }

        @Test("Ranks and scales by pattern, and with rank stabilisation")
        func ranks() throws {
            let layout = try layout {
                $0.rankPattern = ["q_proj": 2, "layers.1.mlp.down_proj": 16]
                $0.alphaPattern = ["down_proj": 32]
            }
            func check(_ block: Int, _ target: TargetModule, _ rank: Int, _ scale: Float) {
                let pair = layout.pair(block: block, target)
                #expect(pair?.rank == rank && pair?.scale == scale, "\(block) \(target)")
            }
            check(0, .queryProjection, 2, 4)
            check(1, .queryProjection, 2, 4)
            check(0, .keyProjection, 4, 2)
            check(0, .downProjection, 4, 8)
            check(1, .downProjection, 16, 2)
            #expect(layout.largestRank == 16)
            #expect(layout.pairs.last?.end == layout.parameterCount)
            let stable = try self.layout { $0.usesRankStabilization = true }
            #expect(stable.pairs.allSatisfy { $0.scale == 4 })
        }

        @Test("An adapter that means no projection of the base says so")
        func nothing() throws {
            let adapter = AdapterParameters.random(model, targets: [])
            let configuration = AdapterConfiguration(rank: 4, alpha: 8, targetModules: .names(["c_attn"]))
            let file = try file(adapter, configuration: configuration)
            let text = message { _ = try AdapterParameters(file: file, configuration: model.configuration) }
            #expect(text.contains("no target module of the adapter is a projection of this base"))
        }

        // MARK: Combining

        @Test("A combination acts as the weighted sum of its parts")
        func combining() throws {
            let parts = [
                (adapter: AdapterParameters.random(model, rank: 3, scale: 2, seed: 1), weight: Float(0.75)),
                (
                    adapter: .random(model, rank: 5, scale: 0.5, targets: [.queryProjection, .upProjection], seed: 2),
                    -2
                ),
            ]
            let sum = AdapterParameters.combining(parts, base: model)
            for pair in sum.layout.pairs {
                #expect(pair.scale == 1)
                var expected = [Double](repeating: 0, count: pair.outputs * pair.inputs)
                for (adapter, weight) in parts {
                    guard let part = adapter.layout.pair(block: pair.block, pair.target) else { continue }
                    let delta = delta(adapter, part)
                    for index in expected.indices { expected[index] += Double(weight) * delta[index] }
                }
                #expect(error(delta(sum, pair).map { Float($0) }, expected) < 1e-6)
            }
            #expect(sum.layout.pair(block: 0, .queryProjection)?.rank == 8)
            #expect(sum.layout.pair(block: 0, .downProjection)?.rank == 3)
        }

        @Test("One adapter of weight 1 is itself; halves of one add up to it in the logits")
        func combiningOne() throws {
            let adapter = AdapterParameters.random(model)
            #expect(AdapterParameters.combining([(adapter, 1)], base: model) === adapter)
            let halves = AdapterParameters.combining(
                [(adapter, 0.5), (adapter, 0.5)], base: model)
            let nothing = AdapterParameters.combining(
                [(adapter, 1), (adapter, -1)], base: model)
            try withPool { pool in
                let pass = try InferencePass(model: model, pool: pool, compute: .f32, capacity: 32, positions: 32)
                let text = tokens(20, seed: 1)
                // The tied embedding makes logits of up to 40.
                let rounding: Float = 2e-4
                #expect(
                    largestDifference(pass.logits(text, adapter: halves), pass.logits(text, adapter: adapter))
                        < rounding)
                #expect(largestDifference(pass.logits(text, adapter: nothing), pass.logits(text)) < rounding)
                #expect(largestDifference(pass.logits(text, adapter: adapter), pass.logits(text)) > 0.1)
            }
        }

        /// scale · B A (out, in)
        private func delta(_ adapter: AdapterParameters, _ pair: LowRankPair) -> [Double] {
            let (A, B) = (adapter.matrixA(pair), adapter.matrixB(pair))
            return (0..<pair.outputs).flatMap { row in
                (0..<pair.inputs).map { column in
                    Double(pair.scale)
                        * (0..<pair.rank).reduce(0.0) {
                            $0 + Double(B[row * pair.rank + $1]) * Double(A[$1 * pair.inputs + column])
                        }
                }
            }
        }
    }
}
