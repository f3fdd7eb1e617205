import Foundation
import LoRAFormats
import OrderedCollections
import Testing

/// Runs the program and expects success.
@discardableResult
func lora(
    _ arguments: [String], input: [UInt8]? = nil, environment: [String: String] = [:], directory: URL? = nil,
    script: String? = nil, sourceLocation: SourceLocation = #_sourceLocation
) throws -> Program.Output {
    let output = try Program.run(
        arguments, input: input, environment: environment, directory: directory, script: script)
    #expect(
        output.status == 0, "\(arguments.joined(separator: " "))\n\(output.errors)", sourceLocation: sourceLocation)
    return output
}

/// Runs the program and expects that it refuses: status 1, nothing on standard output, and one line that begins with
/// `Error:` and has all of `parts`.
@discardableResult
func refusal(
    _ arguments: [String], input: [UInt8]? = nil, environment: [String: String] = [:], directory: URL? = nil,
    script: String? = nil, naming parts: [String], sourceLocation: SourceLocation = #_sourceLocation
) throws -> Program.Output {
    let output = try Program.run(
        arguments + ["--quiet"], input: input, environment: environment, directory: directory, script: script)
    let command = "\(arguments.joined(separator: " "))\n\(output.text)\n\(output.errors)"
    #expect(output.status == 1, "\(command)", sourceLocation: sourceLocation)
    #expect(output.bytes.isEmpty, "\(command)", sourceLocation: sourceLocation)
    let lines = output.errorLines.filter { !$0.hasPrefix("warning: ") }
    #expect(lines.count == 1 && lines[0].hasPrefix("Error: "), "\(command)", sourceLocation: sourceLocation)
    for part in parts {
        #expect(output.errors.contains(part), "expected “\(part)” in: \(command)", sourceLocation: sourceLocation)
    }
    return output
}

/// The one JSON value on standard output.
func json(_ output: Program.Output, sourceLocation: SourceLocation = #_sourceLocation) throws -> JSONValue {
    #expect(output.bytes.last == UInt8(ascii: "\n"), sourceLocation: sourceLocation)
    #expect(output.bytes.count { $0 == UInt8(ascii: "\n") } == 1, sourceLocation: sourceLocation)
    return try JSONValue(parsing: output.bytes)
}

/// The keys of an object in their order; none of anything else.
func keys(_ value: JSONValue?) -> [String] { value?.objectValue.map { Array($0.keys) } ?? [] }

/// Makes a directory, hands it to `body` and removes it.
func withDirectory<Value>(_ body: (URL) throws -> Value) throws -> Value {
    let directory = FileManager.default.temporaryDirectory.appending(path: "lora-\(UUID().uuidString)")
    try FileManager.default.createDirectory(at: directory, withIntermediateDirectories: true)
    defer { try? FileManager.default.removeItem(at: directory) }
    return try body(directory)
}

/// All names in a directory, hidden ones too, in order.
func names(in directory: URL) throws -> [String] {
    try FileManager.default.contentsOfDirectory(atPath: directory.path).sorted()
}

extension URL {
    func bytes() throws -> [UInt8] { [UInt8](try Data(contentsOf: self)) }

    func write(_ bytes: [UInt8]) throws { try Data(bytes).write(to: self) }

    func write(_ text: String) throws { try write(Array(text.utf8)) }
}
