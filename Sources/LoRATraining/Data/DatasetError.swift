/// What is wrong with data to train on or to evaluate with: one line that says where, and what to do about it.
public struct TrainingDataError: Error, CustomStringConvertible, Sendable, Equatable {
    public let message: String

    public init(_ message: String) {
        self.message = message
    }

    public var description: String { message }
}
