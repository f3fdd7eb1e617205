import CKernels
import Foundation
import LoRAFormats
import Testing

@testable import LoRAModel

/// A directory with a tiny base in it, whose projections have any type.
struct MergeBench {
    let directory: URL
    let base: BaseModel

    /// Makes the directory for the time of `body`.
    static func with<Result>(
        _ tiny: TinyModel = TinyModel(), type: GGUFTensorType = .f32, _ body: (MergeBench) throws -> Result
    ) throws -> Result {
        let directory = FileManager.default.temporaryDirectory.appending(path: "merge-\(UUID().uuidString)")
        try FileManager.default.createDirectory(at: directory, withIntermediateDirectories: true)
        defer { try? FileManager.default.removeItem(at: directory) }
        let path = directory.appending(path: "base.bin").path
        try write(tiny.file(), type: type, to: path)
        return try body(MergeBench(directory: directory, base: BaseModel(path: path)))
    }

    func path(_ name: String) -> String { directory.appending(path: name).path }

    func names() throws -> [String] {
        try FileManager.default.contentsOfDirectory(atPath: directory.path).filter { !$0.hasSuffix(".fingerprint") }
            .sorted()
    }

    /// A copy of `file` whose matrices in blocks have `type`.
    private static func write(_ file: GGUFFile, type: GGUFTensorType, to path: String) throws {
        var writer = GGUFWriter(alignment: 64)
        for key in file.keys { try writer.add(key, #require(file.metadata[key])) }
        try writer.add("test.kept", .strings(["a", "b"]))
        for tensor in file.tensors {
            guard tensor.name.hasPrefix("blk."), tensor.shape.count == 2 else {
                try writer.addTensor(
                    tensor.name, type: tensor.type, shape: tensor.shape, bytes: Array(file.bytes(of: tensor)))
                continue
            }
            let values = file.bytes(of: tensor).withMemoryRebound(to: Float.self) { Array($0) }
            var blocks = [UInt8](repeating: 0, count: try #require(type.byteCount(of: values.count)))
            #expect(lora_quantize(&blocks, values, nil, lora_type(type.rawValue), values.count) == 0)
            try writer.addTensor(tensor.name, type: type, shape: tensor.shape, bytes: blocks)
        }
        try writer.write(to: path)
    }

    /// A random adapter for the base, as a file.
    func source(
        seed: UInt64, weight: Float = 1, targets: [TargetModule] = TargetModule.allCases, bound: Float = 0.1,
        fingerprint: String? = nil
    ) throws -> Merge.Source {
        let adapter = AdapterParameters.random(base, scale: 2, targets: targets, seed: seed, bound: bound)
        let file = try AdapterFile(
            configuration: .init(rank: 4, alpha: 8, targetModules: .names(targets.map(\.rawValue))),
            record: .init(domain: "d", baseFingerprint: fingerprint, rank: 4, alpha: 8, targets: []),
            tensors: adapter.tensors(configuration: base.configuration, type: .f32))
        return Merge.Source(path: "adapters/\(seed).lora", file: file, weight: weight)
    }

    func merge(
        _ sources: [Merge.Source], into base: BaseModel? = nil, method: MergeMethod = .linear, type: MergeType = .same,
        again: Bool = false, allowsOtherBase: Bool = false
    ) throws -> Merge {
        try Merge(
            base: base ?? self.base, sources: sources, method: method, type: type, again: again,
            allowsOtherBase: allowsOtherBase)
    }
}

extension GGUFFile {
    /// The values of a tensor.
    func floats(_ name: String) throws -> [Float] {
        let tensor = try #require(self.tensor(named: name))
        var values = [Float](repeating: 0, count: tensor.count)
        let status = bytes(of: tensor).baseAddress.map {
            lora_dequantize(&values, $0, lora_type(tensor.type.rawValue), tensor.count)
        }
        #expect(status == 0)
        return values
    }

    func array(_ name: String) throws -> [UInt8] { Array(bytes(of: try #require(self.tensor(named: name)))) }
}
