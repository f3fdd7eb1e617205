/// The formulas that `Scripts/oracle_base.py` fills adapters and test vectors with, so that a test starts from the same
/// numbers as PyTorch did without storing them.
///
/// A stream is SplitMix64 from the state FNV-1a(name) + seed. Names, shapes and the order of rows are PEFT's; in a GGUF
/// base of the llama architecture the rows of q and k are permuted, and those of their B with them.
enum GoldenAdapter {
    /// 64-bit FNV-1a of the UTF-8 bytes.
    static func fnv1a(_ text: String) -> UInt64 {
        text.utf8.reduce(0xCBF2_9CE4_8422_2325) { ($0 ^ UInt64($1)) &* 0x0000_0100_0000_01B3 }
    }

    /// Output `index` (from 0) of SplitMix64 from `state`.
    static func splitMix(_ state: UInt64, _ index: Int) -> UInt64 {
        var z = state &+ (UInt64(index) &+ 1) &* 0x9E37_79B9_7F4A_7C15
        z = (z ^ (z >> 30)) &* 0xBF58_476D_1CE4_E5B9
        z = (z ^ (z >> 27)) &* 0x94D0_49BB_1331_11EB
        return z ^ (z >> 31)
    }

    /// `count` values in [-bound, bound), row by row: the top 24 bits of each draw.
    static func uniform(name: String, seed: UInt64, count: Int, bound: Float) -> [Float] {
        let state = fnv1a(name) &+ seed
        return (0..<count).map { index in
            let unit = Float(splitMix(state, index) >> 40) * 0x1p-23 - 1
            return unit * bound
        }
    }

    /// A (rank, inputs) matrix: ±1/sqrt(inputs).
    static func a(name: String, seed: UInt64, rank: Int, inputs: Int) -> [Float] {
        uniform(name: name, seed: seed, count: rank * inputs, bound: Float(1 / Double(inputs).squareRoot()))
    }

    /// `count` values of +1 or -1: the top bit of each draw, set meaning -1.
    static func signs(name: String, seed: UInt64, count: Int) -> [Float] {
        let state = fnv1a(name) &+ seed
        return (0..<count).map { splitMix(state, $0) >> 63 == 0 ? 1 : -1 }
    }

    /// The indices of the sampled entries of a tensor with `count` entries.
    static func positions(name: String, seed: UInt64, samples: Int, count: Int) -> [Int] {
        let state = fnv1a(name) &+ seed
        return (0..<samples).map { Int(splitMix(state, $0) % UInt64(count)) }
    }
}

/// `Goldens/peft_smart_home.json`, written by `Scripts/peft_golden.py`.
struct PEFTGolden: Decodable {
    struct Seeds: Decodable {
        let initial, signs, entries: UInt64
    }
    struct Tokens: Decodable {
        let ids: [Int32]
        /// The first supervised token; all after it are supervised too.
        let supervisedFrom: Int
    }
    struct Step: Decodable {
        let loss, learningRate, gradientNorm: Double
        let tokens, supervised: Int
    }
    struct Gradient: Decodable {
        let norm: Double
        /// Products with `GoldenAdapter.signs(name:seed:count:)`, the seed of number i being `seeds.signs + i << 32`.
        let projections: [Double]
        /// Pairs of index and value.
        let entries: [[Double]]
    }

    let rank, batchSize, steps, warmupSteps: Int
    let alpha, learningRate, warmup, maxGradientNorm, beta1, beta2, epsilon, weightDecay, bBound: Double
    let schedule: String
    let targets: [String]
    let seeds: Seeds
    let firstBatch: [Tokens]
    let run: [Step]
    /// The loss of the first batch with the small B that `gradients` belong to.
    let gradientLoss: Double
    let gradients: [String: Gradient]
    /// The first values of some initial tensors, to check the formulas by.
    let initialValues: [String: [Double]]
}

/// `Goldens/base_logits.json`, written by `Scripts/logits_golden.py`.
struct LogitsGolden: Decodable {
    struct Position: Decodable {
        let logSumExp: Double
        let bestID: Int
        let best: Double
        /// Logits of `LogitsGolden.sampledIDs`.
        let sampled: [Double]

        init(from decoder: any Decoder) throws {
            var values = try decoder.unkeyedContainer()
            logSumExp = try values.decode(Double.self)
            bestID = try values.decode(Int.self)
            best = try values.decode(Double.self)
            sampled = try values.decode([Double].self)
        }
    }

    let vocabulary, samples: Int
    /// Largest less smallest logit over all positions.
    let range: Double
    let ids: [Int32]
    let positions: [Position]

    /// The ids whose logits are kept at a position.
    func sampledIDs(position: Int) -> [Int] {
        (0..<samples).map { Int(GoldenAdapter.splitMix(UInt64(position), $0) % UInt64(vocabulary)) }
    }
}
