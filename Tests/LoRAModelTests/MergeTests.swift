import CKernels
import Foundation
import LoRAFormats
import Testing

@testable import LoRAModel

extension KernelTests {
    @Suite("Merging")
    struct MergeTests {
        private func logits(_ base: BaseModel, _ adapter: AdapterParameters?, pool: ThreadPool) throws -> [[Float]] {
            let pass = try InferencePass(model: base, pool: pool, compute: .f32, capacity: 64, positions: 64)
            return pass.logits(tokens(40, seed: 5), adapter: adapter)
        }

        @Test("Merged in f32, the base answers as base and adapters do", arguments: [GGUFTensorType.f32, .q8_0, .bf16])
        func logits(type: GGUFTensorType) throws {
            try MergeBench.with(type: type) { bench in
                let merge = try bench.merge(
                    [
                        bench.source(seed: 1, weight: 0.75),
                        bench.source(seed: 2, targets: [.downProjection, .queryProjection]),
                    ],
                    type: .f32)
                try withPool { pool in
                    let report = try merge.write(to: bench.path("merged.bin"), pool: pool)
                    let merged = try logits(BaseModel(path: bench.path("merged.bin")), nil, pool: pool)
                    let both = AdapterParameters.combining(merge.parts, base: bench.base)
                    let expected = try logits(bench.base, both, pool: pool)
                    let range = expected.joined().reduce(0) { max($0, abs($1)) }
                    #expect(largestDifference(merged, expected) < 1e-5 * range)
                    #expect(largestDifference(merged, try logits(bench.base, nil, pool: pool)) > 0.01 * range)
                    #expect(report.survivingShare > 0.999999 && report.relativeError < 1e-5)
                    #expect(report.tensors.count == 14)
                }
            }
        }

        @Test("Only the adapters' tensors change; keys stay, and tell what went in", arguments: [true, false])
        func untouched(inPlace: Bool) throws {
            try MergeBench.with(type: .q4_1) { bench in
                let merge = try bench.merge([bench.source(seed: 3, weight: 0.5, targets: [.valueProjection])])
                let path = bench.path(inPlace ? "base.bin" : "merged.bin")
                let old = bench.base.file
                let report = try withPool { pool in
                    try inPlace ? merge.replaceBase(pool: pool) : merge.write(to: path, pool: pool)
                }
                #expect(report.tensors.map(\.name) == ["blk.0.attn_v.weight", "blk.1.attn_v.weight"])
                let new = try GGUFFile(path: path)
                for tensor in old.tensors {
                    #expect(new.tensor(named: tensor.name)?.type == tensor.type)
                    let isSame = try new.array(tensor.name) == old.array(tensor.name)
                    #expect(isSame == !tensor.name.contains("attn_v"), "\(tensor.name)")
                }
                for key in old.keys { #expect(new.metadata[key] == old.metadata[key]) }
                #expect(new.alignment == 64)
                let entry = try #require(MergeRecord(gguf: new).entries.first)
                #expect(entry.name == "3.lora" && entry.weight == 0.5 && entry.method == "linear")
                #expect(entry.baseFingerprint == BaseFingerprint.fingerprint(of: old))
                #expect(try bench.names() == (inPlace ? ["base.bin", "base.bin.undo"] : ["base.bin", "merged.bin"]))
            }
        }

        @Test(
            "In the base's own type the error is at most the delta; where nothing is added, bytes stay",
            arguments: GGUFTensorType.allCases)
        func same(type: GGUFTensorType) throws {
            let tiny = TinyModel(hidden: 256, heads: 4, keyValueHeads: 2, headSize: 64, feedForward: 256)
            try MergeBench.with(tiny, type: type) { bench in
                let source = try bench.source(seed: 1, targets: [.upProjection], bound: 0.02)
                let merge = try bench.merge([source])
                // Rows 3 to 9 of every B are zero.
                let adapter = merge.parts[0].adapter
                for pair in adapter.layout.pairs {
                    (adapter.values + pair.offsetB + 3 * pair.rank).update(repeating: 0, count: 7 * pair.rank)
                }
                let path = bench.path("merged.bin")
                let report = try withPool { try merge.write(to: path, pool: $0) }
                let (old, new) = (bench.base.file, try GGUFFile(path: path))
                for pair in adapter.layout.pairs {
                    let name = "blk.\(pair.block).ffn_up.weight"
                    let tensor = try #require(new.tensor(named: name))
                    let rowBytes = tensor.byteCount / 256
                    let rows = { (file: GGUFFile) in Array(try file.array(name)[3 * rowBytes..<10 * rowBytes]) }
                    #expect(try rows(new) == rows(old))
                    var wanted = [Float](repeating: 0, count: tensor.count)
                    let before = try old.floats(name)
                    ModuleDelta(adapter: adapter, pair: pair).add(
                        to: &wanted, rows: 0..<256, times: 1, base: before)
                    let after = try new.floats(name)
                    let left = zip(wanted, zip(before, after)).map { $0 - ($1.1 - $1.0) }
                    let share =
                        distance(left, [Float](repeating: 0, count: left.count)) / distance(wanted, left.map { _ in 0 })
                    let own = try #require(report.tensors.first { $0.name == name })
                    #expect(own.relativeError <= 1 + 1e-6)
                    #expect(abs(own.relativeError - share) < 1e-3 * max(share, 1e-3))
                    #expect((0...1.2).contains(own.survivingShare))
                }
                #expect(report.tensors.count == 2)
            }
        }

        @Test("The share that survives is what is found in the file", arguments: [MergeType.f16, .bf16, .q8_0])
        func surviving(type: MergeType) throws {
            try MergeBench.with { bench in
                let merge = try bench.merge([bench.source(seed: 1, bound: 0.003)], type: type)
                let report = try withPool { try merge.write(to: bench.path("merged.bin"), pool: $0) }
                let (old, new) = (bench.base.file, try GGUFFile(path: bench.path("merged.bin")))
                var (wantedSum, commonSum) = (0.0, 0.0)
                for pair in merge.parts[0].adapter.layout.pairs {
                    let name = try #require(
                        report.tensors.map(\.name).first {
                            guard let place = TargetModule.projection(ofWeight: $0) else { return false }
                            return place == (pair.block, pair.target)
                        })
                    var wanted = [Float](repeating: 0, count: pair.outputs * pair.inputs)
                    let (before, after) = (try old.floats(name), try new.floats(name))
                    ModuleDelta(adapter: merge.parts[0].adapter, pair: pair).add(
                        to: &wanted, rows: 0..<pair.outputs, times: 1, base: before)
                    for (index, value) in wanted.enumerated() {
                        wantedSum += Double(value) * Double(value)
                        commonSum += Double(value) * (Double(after[index]) - Double(before[index]))
                    }
                    #expect(new.tensor(named: name)?.type == type.type(from: .f32))
                }
                #expect(abs(report.survivingShare - commonSum / wantedSum) < 1e-9)
                #expect(try #require(report.worst).survivingShare <= report.survivingShare)
            }
        }

        @Test(
            "Neither threads nor runs of rows change a byte",
            arguments: [MergeMethod.linear, .ties(density: 0.3), .dare(density: 0.3, seed: 4)])
        func threads(method: MergeMethod) throws {
            try MergeBench.with(type: .q8_0) { bench in
                let merge = try bench.merge(
                    [bench.source(seed: 1), bench.source(seed: 2, weight: -0.5)], method: method)
                for threads in [1, 3] {
                    _ = try withPool(threads: threads) { try merge.write(to: bench.path("\(threads)"), pool: $0) }
                }
                #expect(
                    try Data(contentsOf: URL(filePath: bench.path("1")))
                        == Data(contentsOf: URL(filePath: bench.path("3"))))
            }
        }

        // MARK: Methods

        /// What a method makes of adapters of rank 2 on a (12, 16) weight, whose parameters are numbers by seed.
        private func delta(
            _ method: MergeMethod, seeds: [UInt64], weights: [Float], chunk: Int
        ) throws -> [Float] {
            let tiny = TinyModel(blocks: 1, hidden: 16, heads: 2, keyValueHeads: 2, headSize: 8, feedForward: 12)
            let (configuration, rows, columns) = (try tiny.make().configuration, 12, 16)
            let parts = try zip(seeds, weights).map { seed, weight in
                let layout = AdapterLayout(configuration: configuration) { $1 == .upProjection ? (2, 2) : nil }
                let adapter = AdapterParameters(layout: layout)
                var numbers = Numbers(seed)
                adapter.values.update(from: numbers.floats(layout.parameterCount), count: layout.parameterCount)
                let delta = ModuleDelta(adapter: adapter, pair: try #require(layout.pairs.first))
                return TensorDelta.Part(delta: delta, weight: weight, seed: seed)
            }
            return withPool { pool in
                let delta = TensorDelta(
                    method: method, parts: parts, pool: pool, chunkRows: chunk, baseRows: { _, _ in })
                var out = [Float](repeating: .nan, count: rows * columns)
                var scratch = [Float](repeating: .nan, count: max(1, delta.scratchCount * chunk * columns))
                let base = [Float](repeating: 0, count: chunk * columns)
                out.withUnsafeMutableBufferPointer { out in
                    guard let start = out.baseAddress else { return }
                    for lower in stride(from: 0, to: rows, by: chunk) {
                        let range = lower..<min(lower + chunk, rows)
                        delta.compute(start + lower * columns, rows: range, base: base, scratch: &scratch)
                    }
                }
                return out
            }
        }

        @Test("TIES gives PEFT's sums", arguments: ["0.25", "0.5", "1.0"], [1, 5, 12])
        func ties(density: String, chunk: Int) throws {
            let url = URL(filePath: #filePath).deletingLastPathComponent().appending(path: "Goldens/ties.json")
            let golden = try JSONDecoder().decode([String: [Float]].self, from: Data(contentsOf: url))
            let expected = try #require(golden[density])
            let own = try delta(
                .ties(density: try #require(Double(density))), seeds: [10, 11, 12], weights: [1, 0.5, -0.75],
                chunk: chunk)
            #expect(zip(own, expected).allSatisfy { abs($0 - $1) < 1e-6 })
            #expect(own.count == expected.count && own.contains { $0 == 0 } == (density != "1.0"))
        }

        @Test("DARE keeps a share of each delta, divided by it, whatever the runs of rows")
        func dare() throws {
            let plain = try delta(.linear, seeds: [10], weights: [0.5], chunk: 12)
            let kept = try delta(.dare(density: 0.5, seed: 0), seeds: [10], weights: [0.5], chunk: 12)
            #expect(zip(plain, kept).allSatisfy { $1 == 0 || abs($1 - 2 * $0) < 1e-6 })
            let count = kept.count { $0 != 0 }
            // Of 192 values, 96 are expected, give or take 4 standard deviations of 7.
            #expect((68...124).contains(count))
            #expect(try delta(.dare(density: 0.5, seed: 0), seeds: [10], weights: [0.5], chunk: 5) == kept)
            #expect(try delta(.dare(density: 0.5, seed: 0), seeds: [11], weights: [0.5], chunk: 5) != kept)
            #expect(try delta(.dare(density: 1, seed: 0), seeds: [10], weights: [0.5], chunk: 5) == plain)
        }

        // MARK: Refusals

        @Test("An adapter that is in the base already is refused, in one call too, unless asked for again")
        func again() throws {
            try MergeBench.with { bench in
                let source = try bench.source(seed: 1)
                _ = try withPool { try bench.merge([source]).write(to: bench.path("merged.bin"), pool: $0) }
                let merged = try BaseModel(path: bench.path("merged.bin"))
                let text = message { _ = try bench.merge([source], into: merged) }
                #expect(text.contains("adapters/1.lora: is merged already, as '1.lora' with weight 1.0"))
                #expect(text.contains("--again"))
                #expect(message { _ = try bench.merge([source, source]) }.contains("merged already"))
                let twice = try bench.merge([source], into: merged, again: true)
                #expect(twice.record.entries.count == 2)
            }
        }

        @Test("Adapters of the base, and of those it was merged from, are taken; of others not, all named in one error")
        func bases() throws {
            try MergeBench.with { bench in
                let own = BaseFingerprint.fingerprint(of: bench.base.file)
                let other = String(repeating: "0", count: 64)
                _ = try withPool { pool in
                    try bench.merge([bench.source(seed: 1, fingerprint: own)]).write(
                        to: bench.path("merged.bin"), pool: pool)
                }
                let merged = try BaseModel(path: bench.path("merged.bin"))
                let second = try bench.source(seed: 2, fingerprint: own)
                #expect(try bench.merge([second], into: merged).record.entries.count == 2)
                let strange = try [bench.source(seed: 3, fingerprint: other), bench.source(seed: 1)]
                let text = message { _ = try bench.merge(strange, into: merged) }
                #expect(text.contains("adapters/3.lora: trained on another base: the adapter's is \(other)"))
                #expect(text.contains("; adapters/1.lora: is merged already"))
                _ = try bench.merge(strange, into: merged, again: true, allowsOtherBase: true)
            }
        }

        @Test("A type that a tensor's rows do not fill is refused before anything is written")
        func misfit() throws {
            try MergeBench.with(TinyModel(heads: 4, keyValueHeads: 2, headSize: 8, feedForward: 72)) { bench in
                let text = message { _ = try bench.merge([bench.source(seed: 1)], type: .q8_0) }
                #expect(text.contains("blk.0.ffn_down.weight, blk.1.ffn_down.weight are no whole number of blocks"))
                let names = try bench.names()
                #expect(names == ["base.bin"])
            }
        }

        @Test("Values too large for the type are refused; the base stays", arguments: [true, false])
        func overflow(inPlace: Bool) throws {
            try MergeBench.with { bench in
                let before = try Data(contentsOf: URL(filePath: bench.path("base.bin")))
                let merge = try bench.merge([bench.source(seed: 1, weight: 1e7)], type: .f16)
                let text = message {
                    _ = try withPool { pool in
                        try inPlace
                            ? merge.replaceBase(pool: pool) : merge.write(to: bench.path("merged.bin"), pool: pool)
                    }
                }
                #expect(text.contains("blk.0.attn_q.weight: merged values are not finite or too large for F16"))
                #expect(try bench.names() == ["base.bin"])
                #expect(try Data(contentsOf: URL(filePath: bench.path("base.bin"))) == before)
            }
        }

        @Test("Keys that do not fit each other are refused")
        func damagedKeys() throws {
            let file = try TinyModel(keys: ["lora.merge.names": .strings(["a"])]).file()
            #expect(message { _ = try MergeRecord(gguf: file) }.contains("not arrays of one length"))
        }
    }
}
