import OrderedCollections
import Yams

extension YAMLNode {
    /// Deeper texts are refused: each level takes a stack frame, and no real file comes near.
    private static let maximumDepth = 64

    /// Parses a text of one YAML document; an empty text is nothing.
    ///
    /// Stricter than YAML where that helps against mistakes and hostile texts: keys are texts and differ, and there are
    /// no anchors and aliases, by which a short text can stand for more than fits in memory.
    /// - Throws: `FormatError` with the line and what to do.
    public init(parsing text: String) throws(FormatError) {
        // Yams puts what an alias stands for in its place and compares keys whole, so anchors have to be found before.
        // With another character for its stars the text has the same anchors and no aliases.
        if text.utf8.contains(UInt8(ascii: "&")) { try Self.refuseAnchors(text.replacing("*", with: "\u{FFFC}")) }
        self = try Self.compose(text) { root throws(FormatError) in
            guard let root else { return YAMLNode(line: 1, column: 1, content: .scalar(text: "", value: .null)) }
            return try YAMLNode(root, depth: 0)
        }
    }

    private init(_ node: Node, depth: Int) throws(FormatError) {
        guard depth <= Self.maximumDepth else {
            throw FormatError("line \(node.line): nested more than \(Self.maximumDepth) levels deep")
        }
        let content: Content
        switch node {
        case .scalar(let scalar):
            let value = scalar.style == .plain ? Self.meaning(ofPlain: scalar.string) : .string(scalar.string)
            content = .scalar(text: scalar.string, value: value)
        case .sequence(let elements):
            var list: [YAMLNode] = []
            for element in elements { list.append(try YAMLNode(element, depth: depth + 1)) }
            content = .list(list)
        case .mapping(let pairs):
            var members: OrderedDictionary<String, Member> = [:]
            for (key, value) in pairs {
                guard let name = key.scalar?.string else {
                    throw FormatError("line \(key.line): a key must be a text, not a list or a mapping")
                }
                let member = Member(line: key.line, value: try YAMLNode(value, depth: depth + 1))
                guard members.updateValue(member, forKey: name) == nil else {
                    throw FormatError("line \(key.line): \(FormatError.quoted(name)) is there twice; keep one")
                }
            }
            content = .mapping(members)
        case .alias: throw Self.noAnchors(line: node.line)
        }
        self.init(line: node.line, column: node.mark?.column ?? 1, content: content)
    }

    private static func refuseAnchors(_ text: String) throws(FormatError) {
        func check(_ node: Node) throws(FormatError) {
            guard node.anchor == nil else { throw noAnchors(line: node.line) }
            switch node {
            case .scalar, .alias: return
            case .sequence(let elements): for element in elements { try check(element) }
            case .mapping(let pairs):
                for (key, value) in pairs {
                    try check(key)
                    try check(value)
                }
            }
        }
        try compose(text) { root throws(FormatError) in if let root { try check(root) } }
    }

    private static func noAnchors(line: Int) -> FormatError {
        FormatError(
            "line \(line): YAML's anchors and aliases are not taken; put a text that begins with '&' or '*' in quotes")
    }

    // MARK: Yams

    /// Hands the root to `body`: a node knows its anchor only as long as there is its parser.
    private static func compose<Result>(
        _ text: String, _ body: (Node?) throws(FormatError) -> Result
    ) throws(FormatError) -> Result {
        do {
            // Yams keeps a pointer to the text, which is only good for one that is too long to be kept in a register.
            // Its default encoding may be set, and printed, by the environment.
            let parser = try Parser(
                yaml: text + String(repeating: "\n", count: 16), resolver: .basic, encoding: .utf8)
            let root = try parser.singleRoot()
            return try withExtendedLifetime(parser) { try body(root) }
        } catch let error as FormatError {
            throw error
        } catch let error as YamlError {
            throw FormatError(error)
        } catch {
            throw FormatError("not YAML")
        }
    }
}

extension Node {
    fileprivate var line: Int { mark?.line ?? 1 }
}

extension FormatError {
    fileprivate init(_ error: YamlError) {
        switch error {
        case .composer(_, let problem, let mark, _) where problem.contains("alias"):
            self.init("line \(mark.line): \(problem); put a text that begins with '*' in quotes")
        case .scanner(let context, let problem, let mark, _) where context?.text.contains("alias") == true:
            self.init("line \(mark.line): not YAML: \(problem); put a text that begins with '*' in quotes")
        case .scanner(_, let problem, let mark, _), .parser(_, let problem, let mark, _),
            .composer(_, let problem, let mark, _):
            self.init("line \(mark.line): not YAML: \(problem)")
        case .duplicatedKeysInMapping(let duplicates, let context):
            let names = duplicates.map { FormatError.quoted($0) }.joined(separator: ", ")
            self.init("line \(context.mark.line): \(names) is there twice; keep one")
        case .reader(let problem, _, _, _): self.init("not YAML: \(problem)")
        default: self.init("not YAML")
        }
    }
}
