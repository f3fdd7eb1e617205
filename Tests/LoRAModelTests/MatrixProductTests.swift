import CKernels
import COneDNN
import Foundation
import LoRAFormats
import Testing

@testable import LoRAModel

extension KernelTests {
    @Suite("Products with the base's matrices")
    struct MatrixProductTests {
        /// A matrix of random blocks, and its values.
        final class Weights {
            let matrix: FrozenMatrix
            let values: [Double]  // (rows, columns)
            private let bytes: UnsafeMutableRawBufferPointer

            init(_ format: QuantizedProduct.Format, rows: Int, columns: Int, seed: UInt64) {
                let blocks = QuantizedProduct().weights(format, N: rows, K: columns, seed: seed)
                bytes = .allocate(byteCount: blocks.count, alignment: 64)
                bytes.copyBytes(from: blocks)
                let type = GGUFTensorType(rawValue: format.type.rawValue) ?? .f32
                matrix = FrozenMatrix(
                    bytes: UnsafeRawPointer(bytes.baseAddress.unsafelyUnwrapped), type: type, rows: rows,
                    columns: columns)
                var values = [Float](repeating: 0, count: rows * columns)
                _ = lora_dequantize(&values, blocks, format.type, values.count)
                self.values = values.map(Double.init)
            }

            deinit { bytes.deallocate() }
        }

        /// What a product needs, and what it should give.
        struct Case {
            let parts: [Weights]
            let rows: Int
            let columns: Int
            var W: StackedMatrix { StackedMatrix(parts.map(\.matrix)) }
            /// (rows, columns)
            var values: [Double] { parts.flatMap(\.values) }

            init(_ format: QuantizedProduct.Format, parts sizes: [Int], columns: Int) {
                parts = sizes.enumerated().map {
                    Weights(format, rows: $1, columns: columns, seed: UInt64($0 + columns))
                }
                rows = sizes.reduce(0, +)
                self.columns = columns
            }

            /// x (M, columns) · Wᵀ in double precision.
            func forward(_ x: [Float], rows M: Int) -> [Double] {
                let values = values
                return (0..<M).flatMap { m in
                    (0..<rows).map { n in
                        (0..<columns).reduce(0.0) { $0 + Double(x[m * columns + $1]) * values[n * columns + $1] }
                    }
                }
            }

            /// dy (M, rows) · W in double precision.
            func backward(_ dy: [Float], rows M: Int) -> [Double] {
                let values = values
                return (0..<M).flatMap { m in
                    (0..<columns).map { k in
                        (0..<rows).reduce(0.0) { $0 + Double(dy[m * rows + $1]) * values[$1 * columns + k] }
                    }
                }
            }
        }

        /// x (M, columns) · Wᵀ or x (M, rows) · W; what the output held before is 1.
        func multiply(
            _ product: MatrixProduct, _ x: [Float], rows M: Int, _ W: StackedMatrix,
            _ direction: ExpandedMatrix.Direction, part: Range<Int>? = nil, accumulate: Bool = false
        ) throws -> [Float] {
            let padded = MatrixProduct.paddedRows(M)
            let width = direction == .forward ? W.columns : (part?.count ?? W.rows)
            let arena = try Arena(
                capacity: ActivationBuffer.size(compute: product.compute, rows: padded, width: width)
                    + ExpansionBuffer.size(rows: W.rows, columns: W.columns, compute: product.compute))
            let buffer = ActivationBuffer(arena: arena, compute: product.compute, rows: padded, width: width)
            buffer.values().update(from: x, count: x.count)
            buffer.seal(rows: 0..<M)
            let expansion = ExpansionBuffer(
                arena: arena, rows: W.rows, columns: W.columns, compute: product.compute)
            let w = product.expand(W, rows: part, direction, into: expansion)
            let y = Floats([Float](repeating: 1, count: padded * w.outputs))
            product.pool.forEachRowChunk(M) { rows, thread in
                product.multiply(
                    y.base + rows.lowerBound * w.outputs, buffer.operand(row: rows.lowerBound), rows: rows.count, w,
                    thread: thread, accumulate: accumulate)
            }
            return withExtendedLifetime(arena) { Array(y.array[..<(M * w.outputs)]) }
        }

        func directly(
            _ product: MatrixProduct, _ x: [Float], rows M: Int, _ W: StackedMatrix, accumulate: Bool = false
        ) -> [Float] {
            let y = Floats([Float](repeating: 1, count: M * W.rows))
            product.forwardDirectly(y.base, stride: W.rows, x, rows: M, W, accumulate: accumulate)
            return y.array
        }

        /// Values that bf16 holds exactly, so that only the weights may be rounded.
        func inputs(_ count: Int, seed: UInt64) -> [Float] {
            var numbers = Numbers(seed)
            return (0..<count).map { _ in Float(Int(numbers.next() % 255) - 127) / 64 }
        }

        /// bf16 keeps 8 bits of a weight: 2^-9 of each term, which cancel in a sum.
        func tolerance(_ compute: Compute, terms: Int) -> Double {
            compute == .bf16 ? 0.01 : LoRAModelTests.tolerance(terms: terms) * 4
        }

        /// What multiplies, and elements that it multiplies here.
        struct Engine: Sendable, CustomTestStringConvertible {
            let compute: Compute
            let usesOneDNN: Bool
            var testDescription: String { "\(usesOneDNN ? "oneDNN" : "own kernel") \(compute)" }

            func product(_ pool: ThreadPool) -> MatrixProduct {
                MatrixProduct(pool: pool, compute: compute, usesOneDNN: usesOneDNN)
            }
        }

        static let engines =
            [Engine(compute: .f32, usesOneDNN: false)]
            + Compute.allCases.filter(\.isSupported).map { Engine(compute: $0, usesOneDNN: true) }

        @Test("Forward and backward agree with naive sums", arguments: QuantizedProduct.formats, engines)
        func naive(format: QuantizedProduct.Format, engine: Engine) throws {
            let columns = format.block == 256 ? 256 : 96
            try withPool { pool in
                let product = engine.product(pool)
                for parts in [[48], [64, 32, 32], [7, 30]] {
                    let sample = Case(format, parts: parts, columns: columns)
                    for M in [1, 2, 15, 16, 17, 40] {
                        let x = inputs(M * columns, seed: UInt64(M))
                        let y = try multiply(product, x, rows: M, sample.W, .forward)
                        #expect(error(y, sample.forward(x, rows: M)) < tolerance(engine.compute, terms: columns))
                        let dy = inputs(M * sample.rows, seed: UInt64(M + 1))
                        let dx = try multiply(product, dy, rows: M, sample.W, .backward)
                        #expect(error(dx, sample.backward(dy, rows: M)) < tolerance(engine.compute, terms: sample.rows))
                    }
                }
            }
        }

        @Test("Accumulating adds to what is there", arguments: engines)
        func accumulate(engine: Engine) throws {
            try withPool { pool in
                let product = engine.product(pool)
                for format in QuantizedProduct.formats where ["F32", "BF16", "Q4_1"].contains(format.name) {
                    let sample = Case(format, parts: [40, 56], columns: 64)
                    for M in [1, 20] {
                        let x = inputs(M * 64, seed: 3)
                        let plain = sample.forward(x, rows: M).map { $0 + 1 }
                        let y = try multiply(product, x, rows: M, sample.W, .forward, accumulate: true)
                        #expect(error(y, plain) < tolerance(engine.compute, terms: 64), "\(format.name)")
                        let direct = directly(product, x, rows: M, sample.W, accumulate: true)
                        #expect(error(direct, plain) < tolerance(.f32, terms: 64), "\(format.name)")
                        let dy = inputs(M * sample.rows, seed: 4)
                        let expected = sample.backward(dy, rows: M).map { $0 + 1 }
                        let dx = try multiply(product, dy, rows: M, sample.W, .backward, accumulate: true)
                        #expect(error(dx, expected) < tolerance(engine.compute, terms: sample.rows), "\(format.name)")
                    }
                }
            }
        }

        @Test("Stored blocks can be multiplied directly", arguments: QuantizedProduct.formats)
        func direct(format: QuantizedProduct.Format) throws {
            let sample = Case(format, parts: [40, 17], columns: 256)
            withPool { pool in
                let product = MatrixProduct(pool: pool, compute: .f32)
                for M in [1, 3, 8, 9] {
                    let x = inputs(M * 256, seed: UInt64(M))
                    let y = directly(product, x, rows: M, sample.W)
                    #expect(error(y, sample.forward(x, rows: M)) < tolerance(.f32, terms: 256))
                }
            }
        }

        @Test("Whichever thread multiplies with oneDNN, it brings no threads of its own")
        func helpers() async {
            let threads = await withCheckedContinuation { continuation in
                Thread.detachNewThread {
                    let (x, w, y) = (
                        Floats(inputs(256, seed: 1)), Floats(inputs(256, seed: 2)), Floats(inputs(256, seed: 3))
                    )
                    OneDNNProduct(compute: .f32).multiply(
                        y.base, x.base, w.base,
                        .init(
                            M: 16, N: 16, K: 16, xStride: 16, yStride: 16, order: .outputRows(stride: 16),
                            accumulate: false)
                    )
                    continuation.resume(returning: omp_get_max_threads())
                }
            }
            #expect(threads == 1)
        }

        @Test("Some rows of a matrix can be expanded alone", arguments: engines)
        func part(engine: Engine) throws {
            let sample = Case(QuantizedProduct.formats[4], parts: [70, 90], columns: 64)
            try withPool { pool in
                let product = engine.product(pool)
                for part in [0..<160, 0..<64, 64..<160, 37..<100, 159..<160] {
                    let x = inputs(3 * 64, seed: 5)
                    let y = try multiply(product, x, rows: 3, sample.W, .forward, part: part)
                    let whole = sample.forward(x, rows: 3)
                    let expected = (0..<3).flatMap { m in part.map { whole[m * 160 + $0] } }
                    #expect(error(y, expected) < tolerance(engine.compute, terms: 64), "\(part)")
                    let dy = inputs(3 * part.count, seed: 6)
                    var spread = [Float](repeating: 0, count: 3 * 160)
                    for m in 0..<3 { for n in part { spread[m * 160 + n] = dy[m * part.count + n - part.lowerBound] } }
                    let dx = try multiply(product, dy, rows: 3, sample.W, .backward, part: part)
                    #expect(error(dx, sample.backward(spread, rows: 3)) < tolerance(engine.compute, terms: 160))
                }
            }
        }

        @Test("A row's bits do not depend on the other rows", arguments: engines)
        func independence(engine: Engine) throws {
            try withPool { pool in
                let product = engine.product(pool)
                for format in QuantizedProduct.formats where ["F32", "BF16", "Q4_1", "Q8_0"].contains(format.name) {
                    let sample = Case(format, parts: [96, 32], columns: 320)
                    let x = inputs(40 * 320, seed: 1)
                    let whole = try multiply(product, x, rows: 40, sample.W, .forward)
                    let direct = directly(product, x, rows: 40, sample.W)
                    for M in 1...39 {
                        let part = Array(x[..<(M * 320)])
                        let y = try multiply(product, part, rows: M, sample.W, .forward)
                        #expect(y == Array(whole[..<(M * 128)]), "\(format.name), \(M) rows")
                        #expect(directly(product, part, rows: M, sample.W) == Array(direct[..<(M * 128)]))
                    }
                }
            }
        }
    }
}
