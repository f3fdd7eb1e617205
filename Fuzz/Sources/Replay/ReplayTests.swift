import Foundation
import Testing

/// What `make fuzz` starts from and everything it ever found: none of it may fail (again).
@Suite("Fuzz replay")
struct ReplayTests {
    private static let root = URL(filePath: #filePath).deletingLastPathComponent().deletingLastPathComponent()
        .deletingLastPathComponent()

    private static func inputs(_ folder: String, _ target: FuzzTarget) throws -> [URL] {
        let directory = root.appending(path: "\(folder)/\(target.rawValue)")
        guard FileManager.default.fileExists(atPath: directory.path) else { return [] }
        return try FileManager.default.contentsOfDirectory(at: directory, includingPropertiesForKeys: nil)
    }

    @Test("Seeds and fail cases end in a result or a one-line error", arguments: FuzzTarget.allCases)
    func replay(target: FuzzTarget) throws {
        let seeds = try Self.inputs("Seeds", target)
        #expect(!seeds.isEmpty)
        for input in try seeds + Self.inputs("FailCases", target) {
            let bytes = [UInt8](try Data(contentsOf: input))
            target.run(bytes)
            // What is cut short is what a parser trusts too much.
            for count in stride(from: 0, to: bytes.count, by: max(1, bytes.count / 50)) {
                target.run(Array(bytes[..<count]))
            }
        }
    }
}
