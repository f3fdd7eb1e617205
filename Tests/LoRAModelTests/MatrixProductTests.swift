import CKernels
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

        /// A product of `M` rows; what its output held before is 1.
        func forward(
            _ product: MatrixProduct, _ x: [Float], rows M: Int, _ W: StackedMatrix, accumulate: Bool = false
        ) throws -> [Float] {
            let padded = MatrixProduct.paddedRows(M)
            let arena = try Arena(
                capacity: ActivationBuffer.size(compute: product.compute, rows: padded, width: W.columns))
            let buffer = ActivationBuffer(arena: arena, compute: product.compute, rows: padded, width: W.columns)
            buffer.values().update(from: x, count: x.count)
            buffer.seal(rows: 0..<M)
            let y = Floats([Float](repeating: 1, count: padded * W.rows))
            product.forward(y.base, buffer, rows: M, W, accumulate: accumulate)
            return withExtendedLifetime(arena) { Array(y.array[..<(M * W.rows)]) }
        }

        func backward(
            _ product: MatrixProduct, _ dy: [Float], rows M: Int, _ W: StackedMatrix, accumulate: Bool = false
        ) throws -> [Float] {
            let padded = MatrixProduct.paddedRows(M)
            let arena = try Arena(
                capacity: ActivationBuffer.size(compute: product.compute, rows: padded, width: W.rows))
            let buffer = ActivationBuffer(arena: arena, compute: product.compute, rows: padded, width: W.rows)
            buffer.values().update(from: dy, count: dy.count)
            buffer.seal(rows: 0..<M)
            let dx = Floats([Float](repeating: 1, count: padded * W.columns))
            product.backward(dx.base, buffer.operand(), rows: M, W, accumulate: accumulate)
            return withExtendedLifetime(arena) { Array(dx.array[..<(M * W.columns)]) }
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

        /// A library, and what it multiplies here.
        struct Engine: Sendable, CustomTestStringConvertible {
            let compute: Compute
            let usesOneDNN: Bool
            var testDescription: String { "\(usesOneDNN ? "oneDNN" : "OpenBLAS") \(compute)" }

            func product(_ pool: ThreadPool, directRows: Int = 0) -> MatrixProduct {
                MatrixProduct(pool: pool, compute: compute, directRows: directRows, usesOneDNN: usesOneDNN)
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
                        let y = try forward(product, x, rows: M, sample.W)
                        #expect(error(y, sample.forward(x, rows: M)) < tolerance(engine.compute, terms: columns))
                        let dy = inputs(M * sample.rows, seed: UInt64(M + 1))
                        let dx = try backward(product, dy, rows: M, sample.W)
                        #expect(error(dx, sample.backward(dy, rows: M)) < tolerance(engine.compute, terms: sample.rows))
                    }
                }
            }
        }

        @Test("Accumulating adds to what is there", arguments: engines, [0, 32])
        func accumulate(engine: Engine, directRows: Int) throws {
            try withPool { pool in
                let product = engine.product(pool, directRows: directRows)
                for format in QuantizedProduct.formats where ["F32", "BF16", "Q4_1"].contains(format.name) {
                    let sample = Case(format, parts: [40, 56], columns: 64)
                    for M in [1, 20] {
                        let x = inputs(M * 64, seed: 3)
                        let plain = sample.forward(x, rows: M).map { $0 + 1 }
                        let y = try forward(product, x, rows: M, sample.W, accumulate: true)
                        #expect(error(y, plain) < tolerance(engine.compute, terms: 64), "\(format.name)")
                        let dy = inputs(M * sample.rows, seed: 4)
                        let expected = sample.backward(dy, rows: M).map { $0 + 1 }
                        let dx = try backward(product, dy, rows: M, sample.W, accumulate: true)
                        #expect(error(dx, expected) < tolerance(engine.compute, terms: sample.rows), "\(format.name)")
                    }
                }
            }
        }

        @Test("Stored blocks are multiplied directly up to the given rows", arguments: QuantizedProduct.formats)
        func direct(format: QuantizedProduct.Format) throws {
            let sample = Case(format, parts: [40, 17], columns: 256)
            try withPool { pool in
                let product = MatrixProduct(pool: pool, compute: .f32, directRows: 8)
                for M in [1, 3, 8, 9] {
                    let x = inputs(M * 256, seed: UInt64(M))
                    let y = try forward(product, x, rows: M, sample.W)
                    #expect(error(y, sample.forward(x, rows: M)) < tolerance(.f32, terms: 256))
                }
            }
        }

        // OpenBLAS ends the rows that its tiles do not fill with another kernel; only its direct path promises this.
        @Test(
            "A row's bits do not depend on the other rows",
            arguments: engines.filter(\.usesOneDNN).map { ($0, 0) } + engines.map { ($0, 40) })
        func independence(engine: Engine, directRows: Int) throws {
            try withPool { pool in
                let product = engine.product(pool, directRows: directRows)
                for format in QuantizedProduct.formats where ["F32", "BF16", "Q4_1", "Q8_0"].contains(format.name) {
                    let sample = Case(format, parts: [96, 32], columns: 320)
                    let x = inputs(40 * 320, seed: 1)
                    let whole = try forward(product, x, rows: 40, sample.W)
                    for M in 1...39 {
                        let y = try forward(product, Array(x[..<(M * 320)]), rows: M, sample.W)
                        #expect(y == Array(whole[..<(M * 128)]), "\(format.name), \(M) rows")
                    }
                }
            }
        }

        @Test("A matrix of many panels is multiplied in pieces", arguments: engines)
        func pieces(engine: Engine) throws {
            // A panel has 2^22 elements: 128 rows of 32768.
            let format = QuantizedProduct.formats[3]
            let sample = Case(format, parts: [150, 16], columns: 32_768)
            try withPool { pool in
                let product = engine.product(pool)
                let x = inputs(2 * 32_768, seed: 1)
                let y = try forward(product, x, rows: 2, sample.W)
                #expect(error(y, sample.forward(x, rows: 2)) < tolerance(engine.compute, terms: 32_768))
                let dy = inputs(2 * 166, seed: 2)
                let dx = try backward(product, dy, rows: 2, sample.W)
                #expect(error(dx, sample.backward(dy, rows: 2)) < tolerance(engine.compute, terms: 166))
            }
        }
    }
}
