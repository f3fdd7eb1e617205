/// What is wrong with a file or a text: one line that says what, where, and what to do about it.
public struct FormatError: Error, CustomStringConvertible, Sendable, Equatable {
    /// The file (path or name) concerned, when known.
    public var file: String?
    /// What is wrong, where in the file, what was expected.
    public var message: String

    /// An error about `file`, or about a text whose place the caller adds with `located(in:)`.
    public init(_ message: String, file: String? = nil) {
        self.message = message
        self.file = file
    }

    public var description: String { file.map { "\($0): \(message)" } ?? message }

    /// The same error, placed in `file` (or, when it already names one, that one within `file`).
    public func located(in file: String) -> FormatError {
        FormatError(message, file: self.file.map { "\(file): \($0)" } ?? file)
    }

    /// The same with typed throws.
    @discardableResult
    static func locating<Result>(in file: String, _ body: () throws(FormatError) -> Result) throws(FormatError)
        -> Result
    {
        do throws(FormatError) { return try body() } catch { throw error.located(in: file) }
    }

    /// Runs `body` and places its `FormatError`s in `file`; others pass.
    @discardableResult
    public static func relocating<Result>(in file: String, _ body: () throws -> Result) throws -> Result {
        do { return try body() } catch let error as FormatError { throw error.located(in: file) }
    }

    /// Names from a hostile file, made safe for one line of a terminal: control characters escaped, long ones cut.
    public static func quoted(_ name: String) -> String {
        var text = "'"
        for scalar in name.unicodeScalars.prefix(120) {
            let isControl = scalar.value < 0x20 || (0x7F..<0xA0).contains(scalar.value)
            text += isControl ? scalar.escaped(asASCII: true) : String(Character(scalar))
        }
        return text + (name.unicodeScalars.count > 120 ? "…'" : "'")
    }
}
