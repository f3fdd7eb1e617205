/// SplitMix64 (Steele, Lea, Flood 2014): a small seeded generator whose streams are reproducible everywhere.
public struct SplitMix64: RandomNumberGenerator, Sendable, Equatable {
    public var state: UInt64

    public init(seed: UInt64) { state = seed }

    /// The generator of an independent stream: it starts from the `stream`-th output of the one seeded with `seed`.
    public init(seed: UInt64, stream: UInt64) {
        var source = SplitMix64(seed: seed &+ stream &* 0x9E37_79B9_7F4A_7C15)
        state = source.next()
    }

    public mutating func next() -> UInt64 {
        state &+= 0x9E37_79B9_7F4A_7C15
        var z = state
        z = (z ^ (z >> 30)) &* 0xBF58_476D_1CE4_E5B9
        z = (z ^ (z >> 27)) &* 0x94D0_49BB_1331_11EB
        return z ^ (z >> 31)
    }

    /// Uniform in [0, 1), from the upper 24 bits.
    public mutating func nextUnit() -> Float { Float(next() >> 40) * 0x1p-24 }

    /// A uniform integer below `bound`, without bias: draws from the incomplete last multiple of `bound` are repeated.
    public mutating func next(below bound: Int) -> Int {
        precondition(bound > 0, "no integer lies in 0..<\(bound)")
        let bound = UInt64(bound)
        let incomplete = (UInt64.max % bound &+ 1) % bound
        while true {
            let draw = next()
            if draw <= UInt64.max - incomplete { return Int(draw % bound) }
        }
    }

    /// FNV-1a of a name, to give each tensor a stream of its own.
    public static func hash(_ name: String) -> UInt64 {
        name.utf8.reduce(0xCBF2_9CE4_8422_2325) { ($0 ^ UInt64($1)) &* 0x0000_0100_0000_01B3 }
    }
}
