import Foundation
import LoRAFormats

/// The tool's version, as `--version` and adapters' records tell it.
let toolVersion = "0.1.0"

/// Standard output for results, standard error for progress and warnings.
enum Console {
    /// Writes a line of results.
    static func print(_ text: String) { write(text + "\n", to: STDOUT_FILENO) }

    /// Writes results without a line's end.
    static func printPartial(_ text: String) { write(text, to: STDOUT_FILENO) }

    /// Writes a line of progress or a warning.
    static func note(_ text: String) { write(text + "\n", to: STDERR_FILENO) }

    /// Replaces the last line of a terminal.
    static func renote(_ text: String) { write("\r\u{1B}[2K" + text, to: STDERR_FILENO) }

    static let isTerminal = isatty(STDERR_FILENO) == 1

    /// Raw writes: a closed pipe ends the output, not the process.
    private static func write(_ text: String, to descriptor: Int32) {
        var bytes = Array(text.utf8)[...]
        while !bytes.isEmpty {
            let count = bytes.withUnsafeBytes { Glibc.write(descriptor, $0.baseAddress, $0.count) }
            if count < 0 && errno == EINTR { continue }
            if count <= 0 { return }
            bytes = bytes.dropFirst(count)
        }
    }
}

/// All of standard input, byte for byte.
func readStandardInput(limit: Int = 256 << 20) throws -> [UInt8] {
    let data = try FileHandle.standardInput.read(upToCount: limit + 1) ?? Data()
    guard data.count <= limit else { throw FormatError("more than \(limit) bytes", file: "standard input") }
    return [UInt8](data)
}

/// Bytes as people read them: 512 B, 3.4 MB, 1.2 GB.
func describe(bytes: Int) -> String {
    switch bytes {
    case ..<10_000: "\(bytes) B"
    case ..<10_000_000: String(format: "%.0f KB", Double(bytes) / 1e3)
    case ..<1_000_000_000: String(format: "%.1f MB", Double(bytes) / 1e6)
    default: String(format: "%.2f GB", Double(bytes) / 1e9)
    }
}

/// Seconds as people read them: 12s, 3m05s, 1h02m.
func describe(seconds: Double) -> String {
    let whole = Int(seconds.rounded())
    if whole < 60 { return "\(whole)s" }
    if whole < 3600 { return String(format: "%dm%02ds", whole / 60, whole % 60) }
    return String(format: "%dh%02dm", whole / 3600, whole % 3600 / 60)
}
