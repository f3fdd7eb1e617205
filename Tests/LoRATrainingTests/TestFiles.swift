import Foundation

/// Files of the package that tests read, found from where this source file is.
enum TestFiles {
    static let package = URL(filePath: #filePath).deletingLastPathComponent().deletingLastPathComponent()
        .deletingLastPathComponent()

    static let base = package.appending(path: "models/base.bin").path
    static let smartHome = package.appending(path: "datasets/smart-home")

    static func golden(_ name: String) throws -> Data {
        try Data(
            contentsOf: URL(filePath: #filePath).deletingLastPathComponent().appending(path: "Goldens/\(name)"))
    }

    static func golden<Value: Decodable>(_ name: String, as type: Value.Type) throws -> Value {
        try JSONDecoder().decode(type, from: golden(name))
    }

    /// Makes a directory, hands it to `body` and removes it.
    static func withTemporaryDirectory<Value>(_ body: (URL) throws -> Value) throws -> Value {
        let directory = FileManager.default.temporaryDirectory.appending(path: "lora-\(UUID().uuidString)")
        try FileManager.default.createDirectory(at: directory, withIntermediateDirectories: true)
        defer { try? FileManager.default.removeItem(at: directory) }
        return try body(directory)
    }
}
