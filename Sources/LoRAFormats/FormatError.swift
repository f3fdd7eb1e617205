/// What is wrong with a file or a text: one line that says what, where, and what to do about it.
public struct FormatError: Error, CustomStringConvertible, Sendable, Equatable {
    /// The file (path or name) concerned, when known.
    public var file: String?
    public var message: String

    public init(_ message: String, file: String? = nil) {
        self.message = message
        self.file = file
    }

    public var description: String { file.map { "\($0): \(message)" } ?? message }
}
