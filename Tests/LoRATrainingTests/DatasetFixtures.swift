import Foundation

@testable import LoRATraining

extension Dataset {
    /// The data of a file with these bytes, called as `path` is.
    init(bytes: [UInt8], path: String, encoder: ExampleEncoder) throws {
        self = try TestFiles.withTemporaryDirectory { directory in
            let file = directory.appending(path: URL(filePath: path).lastPathComponent)
            try Data(bytes).write(to: file)
            return try Dataset(path: file.path, encoder: encoder, cache: nil)
        }
    }
}
