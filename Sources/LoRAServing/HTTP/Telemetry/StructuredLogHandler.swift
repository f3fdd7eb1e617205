import Foundation
public import Logging
import LoRAFormats
import OrderedCollections

/// Writes each event as one JSON object on one line of standard error.
public struct StructuredLogHandler: LogHandler {
    private let label: String
    private let write: @Sendable (String) -> Void
    public var metadata: Logger.Metadata = [:]
    public var metadataProvider: Logger.MetadataProvider?
    public var logLevel = Logger.Level.info

    public init(label: String, logLevel: Logger.Level = .info) {
        self.init(label: label, logLevel: logLevel, write: Self.writeToStandardError)
    }

    init(label: String, logLevel: Logger.Level, write: @escaping @Sendable (String) -> Void) {
        self.label = label
        self.logLevel = logLevel
        self.write = write
    }

    public subscript(metadataKey key: String) -> Logger.Metadata.Value? {
        get { metadata[key] }
        set { metadata[key] = newValue }
    }

    public func log(event: LogEvent) {
        var line: OrderedDictionary<String, JSONValue> = [
            "time": .string(Date().ISO8601Format(.iso8601(timeZone: .gmt, includingFractionalSeconds: true))),
            "level": .string(event.level.rawValue), "message": .string(event.message.description),
        ]
        if label != "lora" { line["logger"] = .string(label) }
        var all = metadata.merging(metadataProvider?.get() ?? [:]) { $1 }
        if let more = event.metadata { all.merge(more) { $1 } }
        for (key, value) in all.sorted(by: { $0.key < $1.key }) where line[key] == nil { line[key] = Self.json(value) }
        if let error = event.error { line["error"] = .string("\(error)") }
        write(JSONValue.object(line).serialized() + "\n")
    }

    private static func json(_ value: Logger.MetadataValue) -> JSONValue {
        switch value {
        case .string(let text): return .string(text)
        case .stringConvertible(let value as Int): return JSONValue(value)
        case .stringConvertible(let value as Double): return .number(value)
        case .stringConvertible(let value): return .string(value.description)
        case .array(let values): return .array(values.map(json))
        case .dictionary(let values):
            return .object(
                OrderedDictionary(uniqueKeysWithValues: values.sorted { $0.key < $1.key }.map { ($0, json($1)) }))
        }
    }

    /// In one call, so that lines of several threads do not mix.
    private static let writeToStandardError: @Sendable (String) -> Void = { line in
        var bytes = Array(line.utf8)[...]
        while !bytes.isEmpty {
            let count = bytes.withUnsafeBytes { Glibc.write(STDERR_FILENO, $0.baseAddress, $0.count) }
            if count < 0, errno != EINTR { return }
            bytes = bytes.dropFirst(max(0, count))
        }
    }
}
