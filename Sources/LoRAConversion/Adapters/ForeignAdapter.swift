import LoRAFormats
import LoRAModel
import OrderedCollections

/// An adapter that another program wrote, in PEFT's names and order of rows.
struct ForeignAdapter {
    let format: AdapterFormat
    var configuration: AdapterConfiguration
    var tensors: [NamedTensor]
    /// SHA-256 of the file of tensors.
    let digest: String
    /// Of a directory that was a `.lora` file before.
    var ownRecord: AdapterRecord?
    /// That the file names, when it was a `.lora` file before.
    var domain: String?
    /// Of the base that the file names, when it names one.
    var baseFingerprint: String?

    /// Where the adapter comes from; what a `.lora` file said about it before is kept.
    func record(for base: BaseModel, source: String, output: String) -> AdapterRecord {
        if let ownRecord { return ownRecord }
        let targets = TargetModule.allCases.map(\.rawValue).filter { name in
            tensors.contains { $0.name.contains(".\(name).lora_") }
        }
        return AdapterRecord(
            domain: domain ?? Self.stem(output),
            baseFingerprint: baseFingerprint ?? BaseFingerprint.fingerprint(of: base.file),
            rank: configuration.rank, alpha: configuration.alpha, targets: targets,
            training: .object([
                "imported": .object([
                    "from": .string(Self.lastComponent(source)), "format": .string(format.rawValue),
                    "tensors_sha256": .string(digest),
                ])
            ]))
    }

    private static func lastComponent(_ path: String) -> String {
        path.split(separator: "/").last.map(String.init) ?? path
    }

    private static func stem(_ path: String) -> String {
        let name = lastComponent(path)
        guard let dot = name.lastIndex(of: "."), dot != name.startIndex else { return name }
        return String(name[..<dot])
    }
}

/// A projection of one block.
struct Projection: Hashable, Comparable {
    let block: Int
    let target: TargetModule

    var moduleName: String { target.moduleName(block: block) }

    static func < (first: Projection, second: Projection) -> Bool {
        (first.block, first.moduleName) < (second.block, second.moduleName)
    }
}

/// Puts together A and B of each projection from tensors with foreign names, and collects all that is wrong with them.
struct PairCollector {
    /// What a tensor is to its projection.
    enum Part: Int, CaseIterable {
        case a, b, magnitudes
    }

    struct Pair {
        let projection: Projection
        let rank: Int
    }

    let configuration: ModelConfiguration
    private(set) var problems: [String] = []
    private var parts: [Projection: [Part: NamedTensor]] = [:]

    init(configuration: ModelConfiguration) { self.configuration = configuration }

    mutating func problem(_ text: String) { problems.append(text) }

    /// Takes a tensor in PEFT's orientation: A (r, in), B (out, r), magnitudes (out).
    mutating func add(_ tensor: NamedTensor, _ part: Part, of projection: Projection) {
        let name = FormatError.quoted(tensor.name)
        let (outputs, inputs) = projection.target.shape(in: configuration)
        guard (0..<configuration.blockCount).contains(projection.block) else {
            return problem("\(name) belongs to block \(projection.block), the base has \(configuration.blockCount)")
        }
        let (size, expected, verb) =
            part == .a ? (tensor.shape.last, inputs, "takes") : (tensor.shape.first, outputs, "gives")
        guard tensor.shape.count == (part == .magnitudes ? 1 : 2) else {
            return problem("\(name) has \(tensor.shape.count) dimensions")
        }
        if size != expected { problem("\(name) \(verb) \(size ?? 0) values, the base's projection \(expected)") }
        if parts[projection, default: [:]].updateValue(tensor, forKey: part) != nil {
            problem("\(name) is there twice")
        }
    }

    /// The pairs with their tensors under PEFT's names.
    /// - Parameters:
    ///   - isDecomposed: whether each projection has magnitudes.
    ///   - foreignName: of a part, for errors.
    /// - Throws: `FormatError` with all problems.
    mutating func finish(
        isDecomposed: Bool = false, foreignName: (Projection, Part) -> String
    ) throws -> (pairs: [Pair], tensors: [NamedTensor]) {
        var (pairs, tensors): ([Pair], [NamedTensor]) = ([], [])
        let expected = isDecomposed ? Part.allCases : [.a, .b]
        for (projection, found) in parts.sorted(by: { $0.key < $1.key }) {
            for part in expected where found[part] == nil { problem("missing \(foreignName(projection, part))") }
            for (part, _) in found where !expected.contains(part) {
                problem("unexpected \(foreignName(projection, part))")
            }
            guard let a = found[.a], let b = found[.b], let rank = a.shape.first else { continue }
            if b.shape.last != rank || rank == 0 {
                problem(
                    "\(foreignName(projection, .a)) has rank \(rank), \(foreignName(projection, .b)) "
                        + "rank \(b.shape.last ?? 0)")
            }
            pairs.append(Pair(projection: projection, rank: rank))
            let stem = "base_model.model.\(projection.moduleName)."
            tensors.append(try a.renamed(stem + "lora_A.weight"))
            tensors.append(try b.renamed(stem + "lora_B.weight"))
            if let m = found[.magnitudes] { tensors.append(try m.renamed(stem + "lora_magnitude_vector")) }
        }
        if parts.isEmpty { problem("no tensor belongs to a projection of the base") }
        guard problems.isEmpty else {
            throw FormatError("adapter does not fit the base: \(problems.joined(separator: "; "))")
        }
        return (pairs, tensors)
    }
}

extension AdapterConfiguration {
    /// PEFT's description of pairs of any ranks and alphas: what most of them have, and patterns for the others.
    init(pairs: [(projection: Projection, rank: Int, alpha: Double)], blockCount: Int) {
        let rank = pairs.map(\.rank).mostFrequent ?? 1
        let alpha = pairs.map(\.alpha).mostFrequent ?? 1
        let targets = TargetModule.allCases.filter { target in pairs.contains { $0.projection.target == target } }
        let blocks = Set(pairs.map(\.projection.block)).sorted()
        let isRegular = pairs.count == targets.count * blocks.count
        let names = isRegular ? targets.map(\.rawValue) : pairs.map(\.projection.moduleName)
        self.init(rank: rank, alpha: alpha, targetModules: .names(names))
        if isRegular, blocks.count < blockCount { layers = blocks }
        for target in targets {
            let own = pairs.filter { $0.projection.target == target }
            let isUniform = own.allSatisfy { $0.rank == own[0].rank && $0.alpha == own[0].alpha }
            for pair in isUniform ? own.prefix(1) : own[...] {
                let key = isUniform ? target.rawValue : pair.projection.moduleName
                if pair.rank != rank { rankPattern[key] = pair.rank }
                if pair.alpha != alpha { alphaPattern[key] = pair.alpha }
            }
        }
    }
}

extension Array where Element: Hashable {
    /// The element that is there most often, the first of several.
    var mostFrequent: Element? {
        var counts: OrderedDictionary<Element, Int> = [:]
        for element in self { counts[element, default: 0] += 1 }
        let most = counts.values.max()
        return counts.first { $0.value == most }?.key
    }
}
