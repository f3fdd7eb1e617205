import Testing

@testable import LoRAModel

extension KernelTests {
    @Suite("Change of each module")
    struct ModuleChangeTests {
        let model: BaseModel

        init() throws { model = try TinyModel(heads: 4, keyValueHeads: 2).make() }

        @Test("‖ΔW‖ is the root of s² · tr((BᵀB)(AAᵀ)), ‖W‖ that of the stored weights")
        func lowRank() throws {
            let adapter = AdapterParameters.random(model, rank: 3, scale: 1.5)
            let changes = withPool { adapter.changes(of: model, pool: $0) }
            #expect(changes.map(\.target) == adapter.layout.pairs.map(\.target))
            for (pair, change) in zip(adapter.layout.pairs, changes) {
                #expect(change.block == pair.block)
                #expect(abs(change.changeNorm / adapter.changeNormByTrace(pair) - 1) < 1e-5)
                #expect(abs(change.baseNorm / model.norm(pair) - 1) < 1e-5)
                #expect(change.ratio == change.changeNorm / change.baseNorm)
            }
        }

        @Test("Sums do not depend on the threads, and an adapter whose B is zero changes nothing")
        func threads() throws {
            let adapter = AdapterParameters.random(model)
            let one = withPool(threads: 1) { adapter.changes(of: model, pool: $0) }
            #expect(withPool(threads: 3) { adapter.changes(of: model, pool: $0) } == one)
            let fresh = AdapterParameters.random(model, bound: 0)
            #expect(withPool { fresh.changes(of: model, pool: $0) }.allSatisfy { $0.ratio == 0 })
        }

        @Test("Magnitudes count: doubling them with B zero adds as much as W")
        func magnitudes() throws {
            let layout = AdapterLayout(configuration: model.configuration, rowFactors: .magnitudes) { _, target in
                target == .downProjection ? (2, 1) : nil
            }
            let adapter = AdapterParameters(layout: layout)
            adapter.initialize(seed: 1)
            adapter.initializeMagnitudes(for: model)
            for pair in layout.pairs {
                for row in 0..<pair.outputs { adapter.values[pair.offsetRowFactors + row] *= 2 }
            }
            for change in withPool({ adapter.changes(of: model, pool: $0) }) { #expect(abs(change.ratio - 1) < 1e-5) }
        }
    }
}

extension AdapterParameters {
    /// Another way to ‖s · B A‖, in double precision.
    fileprivate func changeNormByTrace(_ pair: LowRankPair) -> Double {
        let (A, B, r) = (matrixA(pair), matrixB(pair), pair.rank)
        var trace = 0.0
        for i in 0..<r {
            for j in 0..<r {
                let ofB = (0..<pair.outputs).reduce(0.0) { $0 + Double(B[$1 * r + i]) * Double(B[$1 * r + j]) }
                let ofA = (0..<pair.inputs).reduce(0.0) {
                    $0 + Double(A[i * pair.inputs + $1]) * Double(A[j * pair.inputs + $1])
                }
                trace += ofB * ofA
            }
        }
        return Double(pair.scale) * trace.squareRoot()
    }
}

extension BaseModel {
    fileprivate func norm(_ pair: LowRankPair) -> Double {
        let W = matrix(pair.target, block: pair.block)
        var row = [Float](repeating: 0, count: W.columns)
        return (0..<W.rows).reduce(0.0) { sum, index in
            W.expand(&row, row: index)
            return sum + row.reduce(0.0) { $0 + Double($1) * Double($1) }
        }.squareRoot()
    }
}
