import Foundation
import LoRAConversion
import LoRAFormats

/// The base in the types that workloads ask for, in a temporary directory that goes with this object.
final class ConvertedBases {
    private let base: String
    private let directory: URL
    private var paths: [GGUFTensorType: String] = [:]

    init(of base: String) throws {
        self.base = base
        directory = try FileManager.default.url(
            for: .itemReplacementDirectory, in: .userDomainMask, appropriateFor: URL(fileURLWithPath: base),
            create: true)
    }

    deinit { try? FileManager.default.removeItem(at: directory) }

    /// The base itself where `type` is nil; else a copy, made at the first call.
    func path(_ type: GGUFTensorType?) throws -> String {
        guard let type else { return base }
        if let path = paths[type] { return path }
        let path = directory.appendingPathComponent("\(type.name).gguf").path
        try BaseConversion.importBase(from: base, to: path, type: type)
        paths[type] = path
        return path
    }
}
