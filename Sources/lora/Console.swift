import Foundation
import LoRAFormats
import OrderedCollections

/// The tool's version, as `--version` and adapters' records tell it.
let toolVersion = "0.1.0"

/// Standard output for results, standard error for progress and warnings.
enum Console {
    /// Writes a line of results.
    static func print(_ text: String) { printPartial(text + "\n") }

    /// Writes facts as one JSON object, or as a table whose values, which files may have made, stay on their lines.
    static func printFacts(_ facts: OrderedDictionary<String, JSONValue>, json: Bool) {
        if json { return print(JSONValue.object(facts).serialized()) }
        let width = facts.keys.reduce(0) { max($0, $1.count) }
        for (name, value) in facts {
            let text = (value.stringValue ?? value.serialized()).unicodeScalars.map {
                $0.properties.generalCategory == .control ? $0.escaped(asASCII: true) : String(Character($0))
            }
            print(padded(name, to: width + 2) + text.joined())
        }
    }

    /// Writes results without a line's end. Where nobody reads them any more, the process ends as it would by SIGPIPE;
    /// results that cannot be written for another reason are an error.
    static func printPartial(_ text: String) {
        switch write(text, to: STDOUT_FILENO) {
        case 0: return
        case EPIPE: exit(128 + SIGPIPE)
        case let code: fail("standard output: cannot write: \(String(cString: strerror(code)))")
        }
    }

    /// Writes a line of progress or a warning, which stays one whatever a file put into it; a run goes on when nobody
    /// reads them.
    static func note(_ text: String) { _ = write(oneLine(text) + "\n", to: STDERR_FILENO) }

    /// Replaces the last line of a terminal.
    static func renote(_ text: String) { _ = write("\r\u{1B}[2K" + text, to: STDERR_FILENO) }

    /// Says in one line why nothing more can be done, and ends the process with status 1.
    static func fail(_ message: String) -> Never {
        note("Error: " + message)
        exit(1)
    }

    /// `text` without line ends and other control characters, which could steer a terminal.
    static func oneLine(_ text: String) -> String {
        let scalars = text.unicodeScalars.map { scalar -> Unicode.Scalar in
            let isControl = scalar.value < 0x20 || (0x7F..<0xA0).contains(scalar.value)
            return isControl || ["\u{2028}", "\u{2029}"].contains(scalar) ? " " : scalar
        }
        return String(String.UnicodeScalarView(scalars))
    }

    /// `text` with spaces after it, to `width` characters at least.
    static func padded(_ text: String, to width: Int) -> String {
        text + String(repeating: " ", count: max(0, width - text.count))
    }

    static let isTerminal = isatty(STDERR_FILENO) == 1

    /// Columns of the terminal; 80 where there is none.
    static var width: Int {
        var size = winsize()
        guard ioctl(STDERR_FILENO, UInt(TIOCGWINSZ), &size) == 0, size.ws_col > 0 else { return 80 }
        return Int(size.ws_col)
    }

    /// - Returns: 0, or the reason why not all of it is written.
    private static func write(_ text: String, to descriptor: Int32) -> Int32 {
        var bytes = Array(text.utf8)[...]
        while !bytes.isEmpty {
            let count = bytes.withUnsafeBytes { Glibc.write(descriptor, $0.baseAddress, $0.count) }
            if count < 0 {
                if errno == EINTR { continue }
                return errno
            }
            bytes = bytes.dropFirst(count)
        }
        return 0
    }
}

/// All of standard input, byte for byte.
func readStandardInput(limit: Int = 256 << 20) throws -> [UInt8] {
    var bytes: [UInt8] = []
    var part = [UInt8](repeating: 0, count: 1 << 16)
    while bytes.count <= limit {
        let count = read(STDIN_FILENO, &part, part.count)
        if count == 0 { return bytes }
        if count > 0 {
            bytes += part[..<count]
        } else if errno != EINTR {
            throw FormatError("cannot read: \(String(cString: strerror(errno)))", file: "standard input")
        }
    }
    throw FormatError("more than \(limit) bytes", file: "standard input")
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
