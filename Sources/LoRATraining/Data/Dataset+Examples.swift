extension Dataset {
    /// The examples of a token file, or some of them; each is made of its record when it is asked for. O(tokens of the
    /// example).
    public struct Examples: RandomAccessCollection, Sendable {
        let file: TokenFile
        /// The records that count, ascending; nil for all.
        let selection: [UInt32]?

        init(file: TokenFile, selection: [UInt32]? = nil) {
            self.file = file
            self.selection = selection
        }

        public var startIndex: Int { 0 }
        public var endIndex: Int { selection?.count ?? file.count }

        public subscript(position: Int) -> Example { file.example(at: record(position)) }

        /// Tokens of the example at `position`.
        func tokenCount(at position: Int) -> Int { file.tokenCount(at: record(position)) }

        func record(_ position: Int) -> Int { selection.map { Int($0[position]) } ?? position }
    }

    /// What exact match asks, as `Examples` has examples.
    public struct Questions: RandomAccessCollection, Sendable {
        private let file: TokenFile
        /// The records that ask something; nil for all.
        private let selection: [UInt32]?

        fileprivate init(_ examples: Examples) {
            file = examples.file
            let asked = examples.file.summary.tally.questions
            switch asked {
            case 0: selection = []
            case examples.file.count: selection = examples.selection
            default:
                selection = examples.indices.map { UInt32(examples.record($0)) }.filter {
                    examples.file.question(at: Int($0)) != nil
                }
            }
        }

        public var startIndex: Int { 0 }
        public var endIndex: Int { selection?.count ?? file.count }

        public subscript(position: Int) -> Question {
            let record = selection.map { Int($0[position]) } ?? position
            guard let question = file.question(at: record) else { preconditionFailure("record \(record) asks nothing") }
            return question
        }
    }

    /// What exact match asks, in the order of the file; empty for the form `text`, and where the encoder leaves it out.
    public var questions: Questions { Questions(examples) }
}
