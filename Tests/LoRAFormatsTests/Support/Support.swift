import Foundation
import LoRAFormats
import Testing

enum Support {
    static let directory = URL(filePath: #filePath).deletingLastPathComponent().deletingLastPathComponent()
    static let goldens = directory.appending(path: "Goldens")
    static let base = directory.deletingLastPathComponent().deletingLastPathComponent().appending(
        path: "models/base.bin"
    ).path

    static func goldenPath(_ name: String) -> String { goldens.appending(path: name).path }

    static func golden(_ name: String) throws -> [UInt8] {
        [UInt8](try Data(contentsOf: goldens.appending(path: name)))
    }

    /// Runs `body` with the path of a fresh directory, which is removed afterwards.
    static func withDirectory<Result>(_ body: (String) throws -> Result) throws -> Result {
        let url = FileManager.default.temporaryDirectory.appending(path: "lora-formats-\(UUID().uuidString)")
        try FileManager.default.createDirectory(at: url, withIntermediateDirectories: true)
        defer { try? FileManager.default.removeItem(at: url) }
        return try body(url.path)
    }

    /// Writes `bytes` to a fresh file for the time of `body`.
    static func withFile<Result>(_ bytes: [UInt8], _ body: (String) throws -> Result) throws -> Result {
        try withDirectory { directory in
            let path = directory + "/file.bin"
            try Data(bytes).write(to: URL(filePath: path))
            return try body(path)
        }
    }

    /// Writes `bytes` to `path`, not atomically but fast.
    static func overwrite(_ path: String, _ bytes: [UInt8]) throws {
        try Data(bytes).write(to: URL(filePath: path))
    }

    static func names(in directory: String) throws -> [String] {
        try FileManager.default.contentsOfDirectory(atPath: directory).sorted()
    }

    /// The message of the `FormatError` that `body` throws, which must be one line.
    static func message(_ body: () throws -> Void, sourceLocation: SourceLocation = #_sourceLocation) -> String {
        do {
            try body()
        } catch let error as FormatError {
            #expect(!error.description.contains("\n"), sourceLocation: sourceLocation)
            return error.description
        } catch {
            Issue.record("not a FormatError: \(error)", sourceLocation: sourceLocation)
            return ""
        }
        Issue.record("nothing was thrown", sourceLocation: sourceLocation)
        return ""
    }
}
