import LoRAFormats
import LoRAModel

/// One thing to measure, as data alone. Its name says all of it, so a worker is told the name.
struct Workload {
    enum Data {
        /// Random tokens, all supervised.
        case random(examples: Int, length: Int)
        /// Real rows in the order of the file, only answers supervised.
        case rows(perStep: Int)
        /// Serving: a token of each stream at a time, the streams taking turns at so many adapters (0: none).
        case decode(streams: Int, adapters: Int)
        /// Serving: the tokens of one prompt in one pass.
        case prefill(length: Int)
        /// Serving: so many clients that ask a whole engine again and again.
        case traffic(clients: Int)
    }

    enum Targets: String {
        case queryValue = "q-v"
        case attention
        case allLinear = "all-linear"

        var modules: [TargetModule] {
            switch self {
            case .queryValue: [.queryProjection, .valueProjection]
            case .attention: TargetModule.attention
            case .allLinear: TargetModule.allCases
            }
        }
    }

    var data: Data
    /// What the base's matrices are converted to; nil leaves the base as it is.
    var type: GGUFTensorType?
    var compute = Compute.best
    var rank = 8
    var targets = Targets.attention
    /// Nil for those of the whole run.
    var threads: Int?

    /// Such as `4x256-bf16-rank64-all-linear` in training, `decode-16-adapters16-q8_0` in serving, where the type is the
    /// base's: rank 8 on q, k, v and o goes without saying.
    var name: String {
        let work =
            switch data {
            case .random(let examples, let length): "\(examples)x\(length)"
            case .rows: "smart-home"
            case .decode(let streams, 0): "decode-\(streams)"
            case .decode(let streams, let adapters): "decode-\(streams)-adapters\(adapters)"
            case .prefill(let length): "prefill-\(length)"
            case .traffic(let clients): "traffic-\(clients)"
            }
        let plain = rank == 8 && targets == .attention
        let parts = [
            work, type?.name.lowercased(), servedTokens == nil ? compute.rawValue : nil, plain ? nil : "rank\(rank)",
            targets == .attention ? nil : targets.rawValue,
            threads.map { "threads\($0)" },
        ]
        return parts.compactMap(\.self).joined(separator: "-")
    }

    /// Whether rows of a batch begin with the same tokens, which are then computed once.
    var sharesPrefixes: Bool {
        if case .rows = data { true } else { false }
    }

    /// Steps to measure after the first one, which warms up: an odd number where a step is short, for the median.
    var steps: Int {
        switch data {
        case .random(_, let length) where length > 4096: 1
        case .random(let examples, let length): examples * length > 1024 ? 3 : 7
        case .rows, .decode, .prefill: 11
        case .traffic: 8
        }
    }

    /// Tokens of a step of serving; nil for training.
    var servedTokens: Int? {
        switch data {
        case .random, .rows: nil
        case .decode(let streams, _): streams * ServingWorker.stepLength
        case .prefill(let length): length
        case .traffic(let clients): clients * TrafficWorker.requests * TrafficWorker.answerLength
        }
    }

    static let short = Data.random(examples: 4, length: 256)

    /// What `bench` measures: in the element type that this CPU multiplies fastest, and 4 x 256 in f32 everywhere.
    static let measured: [Workload] =
        [
            Workload(data: short),
            Workload(data: short, targets: .allLinear),
            Workload(data: short, rank: 64, targets: .allLinear),
            Workload(data: .rows(perStep: 16)),
            Workload(data: .random(examples: 1, length: 2048)),
            Workload(data: .random(examples: 1, length: 8192)),
        ] + (Compute.best == .f32 ? [] : [Workload(data: short, compute: .f32)])

    /// What `bench` measures of serving: the base as it is, and converted.
    static let served: [Workload] =
        [nil, .q8_0, .bf16].flatMap { type in
            [
                Data.decode(streams: 1, adapters: 0), .decode(streams: 16, adapters: 0),
                .decode(streams: 16, adapters: 16), .prefill(length: 512),
            ].map { Workload(data: $0, type: type) }
        } + [1, 4, 16].map { Workload(data: .traffic(clients: $0), type: .q8_0) }
}
