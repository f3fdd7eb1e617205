import LoRAFormats
import Testing

/// Ways to damage a small valid file.
enum Damage {
    /// Every proper prefix must be refused with a `FormatError`.
    static func truncate<Result>(
        _ bytes: [UInt8], sourceLocation: SourceLocation = #_sourceLocation, parse: ([UInt8]) throws -> Result
    ) {
        for count in 0..<bytes.count {
            #expect(throws: FormatError.self, "the first \(count) bytes", sourceLocation: sourceLocation) {
                try parse(Array(bytes[..<count]))
            }
        }
    }

    /// 2,000 variants with one to eight changed bytes (among the first `limit`) must be read or refused with a `FormatError`.
    static func change<Result>(
        _ bytes: [UInt8], before limit: Int? = nil, sourceLocation: SourceLocation = #_sourceLocation,
        parse: ([UInt8]) throws -> Result
    ) {
        var generator = SeededGenerator(seed: 42)
        var refused = 0
        for _ in 0..<2000 {
            var variant = bytes
            for _ in 0..<Int.random(in: 1...8, using: &generator) {
                let position = Int.random(in: 0..<(limit ?? bytes.count), using: &generator)
                // Extreme values find more faults than random ones.
                let values: [UInt8] = [0x00, 0xFF, 0x7F, 0x80, UInt8.random(in: .min ... .max, using: &generator)]
                variant[position] = values[Int.random(in: 0..<5, using: &generator)]
            }
            do { _ = try parse(variant) } catch is FormatError { refused += 1 } catch {
                Issue.record("not a FormatError: \(error)", sourceLocation: sourceLocation)
            }
        }
        #expect(refused > 0, sourceLocation: sourceLocation)
    }
}
