import Foundation
import LoRAFormats
import LoRAModel

/// Writes the logits of a base, with or without an adapter, for programs to compare with their own:
/// `logits BASE ADAPTER|- OUTPUT f32|bf16 ID,ID,…` leaves (T, V) little-endian floats in OUTPUT.
@main
struct Logits {
    static func main() throws {
        let arguments = CommandLine.arguments
        guard arguments.count == 6, let compute: Compute = ["f32": .f32, "bf16": .bf16][arguments[4]] else {
            throw FormatError("usage: logits BASE ADAPTER|- OUTPUT f32|bf16 ID,ID,…")
        }
        let tokens = arguments[5].split(separator: ",").compactMap { Int32($0) }
        let model = try BaseModel(path: arguments[1])
        let path = arguments[2]
        let adapter =
            path == "-"
            ? nil : try AdapterFile.read(path: path).parameters(for: model, path: path, allowsOtherBase: false)
        let pool = ThreadPool(count: nil)
        defer { pool.shutdown() }
        let pass = try InferencePass(
            model: model, pool: pool, compute: compute, capacity: tokens.count, positions: tokens.count)
        let cache = KeyValueCache(configuration: model.configuration)
        var output = Data()
        pass.run([.init(cache: cache, tokens: tokens, adapter: adapter, wanted: .all)]) { _, _, logits in
            output.append(Data(buffer: logits))
        }
        try output.write(to: URL(filePath: arguments[3]))
    }
}
