/// SplitMix64 (Steele, Lea and Flood, "Fast splittable pseudorandom number generators", OOPSLA 2014): 64 bits of state
/// that advance by a constant, each output a mix of them. Small enough to write down, so that an order of examples can
/// be computed again by any program, whatever the standard library does.
package struct SplitMix64: RandomNumberGenerator, Sendable, Equatable {
    package private(set) var state: UInt64

    package init(state: UInt64) {
        self.state = state
    }

    /// The generator of an independent stream: the state is the `stream`-th output of the one seeded with `seed`.
    package init(seed: UInt64, stream: UInt64) {
        self.init(state: Self.mix(seed &+ (stream &+ 1) &* Self.increment))
    }

    package mutating func next() -> UInt64 {
        state &+= Self.increment
        return Self.mix(state)
    }

    /// A uniform integer below `bound`, without bias: draws from the incomplete last multiple of `bound` are repeated.
    package mutating func next(below bound: Int) -> Int {
        precondition(bound > 0, "no integer lies in 0..<\(bound)")
        let bound = UInt64(bound)
        let incomplete = (UInt64.max % bound &+ 1) % bound
        while true {
            let draw = next()
            if draw <= UInt64.max - incomplete { return Int(draw % bound) }
        }
    }

    private static let increment: UInt64 = 0x9E37_79B9_7F4A_7C15

    private static func mix(_ value: UInt64) -> UInt64 {
        var mixed = value
        mixed = (mixed ^ (mixed >> 30)) &* 0xBF58_476D_1CE4_E5B9
        mixed = (mixed ^ (mixed >> 27)) &* 0x94D0_49BB_1331_11EB
        return mixed ^ (mixed >> 31)
    }
}
