import ArgumentParser
import Foundation
import LoRAFormats
import OrderedCollections

/// `lora train --config train.yaml`: options under their own names, put before those of the command line.
struct TrainConfiguration {
    /// The command line with the file's options in it.
    let arguments: [String]
    private let path: String
    /// Options that come from the file, and the lines that they are on.
    private let lines: OrderedDictionary<String, Int>

    private static let largestFile = 1 << 20
    /// Options of which a command line takes one: naming one of them takes the others of the file away.
    private static let alternatives: [Set<String>] =
        [["epochs", "steps"], ["resume", "checkpoints"]]
        + RunOptions.excludedByRangeTest.union(["epochs"]).map { ["find-lr", $0] }

    /// - Parameter words: the command line without the program's name.
    /// - Returns: nil when the command line names no configuration.
    /// - Throws: `FormatError` for a file that cannot be read, and with every key that is no option.
    init?(expanding words: [String]) throws {
        guard words.first == "train", let path = Self.value(of: "config", in: words) else { return nil }
        let bytes = try MappedFile.contents(path: path, limit: Self.largestFile)
        (arguments, lines) = try FormatError.relocating(in: path) {
            guard let text = String(validating: bytes, as: UTF8.self) else { throw FormatError("is not UTF-8") }
            let settings = try Self.settings(YAMLNode(parsing: text), overriddenBy: words)
            return (
                ["train"] + settings.values.flatMap(\.words) + words.dropFirst(), settings.mapValues(\.line)
            )
        }
        self.path = path
    }

    /// Where the file is to blame for the parser's `message`, which names the option; nil when it is not.
    func place(of message: String) -> String? {
        // Names of the file are checked before; the parser means one of the command line, and proposes another.
        guard !message.hasPrefix("Unknown option") else { return nil }
        let mentioned = lines.filter { name, _ in
            message.ranges(of: "--\(name)").contains { range in
                let next = range.upperBound < message.endIndex ? message[range.upperBound] : " "
                return !next.isLetter && next != "-"
            }
        }
        return mentioned.elements.first.map { "\(path): line \($0.value)" }
    }

    private struct Setting {
        let words: [String]
        let line: Int
    }

    private static func settings(
        _ root: YAMLNode, overriddenBy words: [String]
    ) throws(FormatError) -> OrderedDictionary<String, Setting> {
        guard let members = root.mapping else {
            throw FormatError("line \(root.line): expected options, such as \"rank: 8\"")
        }
        let options = TrainOption.all
        var (settings, flaws) = (OrderedDictionary<String, Setting>(), [String]())
        for (name, member) in members {
            guard let option = options[name] else {
                let nearest = options.keys.min { distance(name, $0) < distance(name, $1) } ?? ""
                flaws.append("line \(member.line): \(FormatError.quoted(name)) is no option; the nearest is \(nearest)")
                continue
            }
            do throws(FormatError) {
                let words = try option.words(member.value)
                settings[name] = Setting(words: words, line: member.line)
            } catch {
                flaws.append("line \(member.line): \(error.message)")
            }
        }
        guard flaws.isEmpty else { throw FormatError(flaws.joined(separator: "; ")) }
        return settings.filter { name, _ in
            let rivals = alternatives.filter { $0.contains(name) }.reduce(into: Set([name])) { $0.formUnion($1) }
            return !rivals.contains { isGiven($0, in: words) }
        }
    }

    private static func isGiven(_ name: String, in words: [String]) -> Bool {
        words.contains { $0 == "--\(name)" || $0 == "--no-\(name)" || $0.hasPrefix("--\(name)=") }
    }

    /// The last value that `words` give to an option.
    private static func value(of name: String, in words: [String]) -> String? {
        for (index, word) in words.enumerated().reversed() {
            if word.hasPrefix("--\(name)=") { return String(word.dropFirst(name.count + 3)) }
            if word == "--\(name)", index + 1 < words.count { return words[index + 1] }
        }
        return nil
    }

    /// Characters to insert, remove or replace on the way from one word to the other (Levenshtein).
    private static func distance(_ first: String, _ second: String) -> Int {
        let second = Array(second)
        var row = Array(0...second.count)
        for (i, character) in first.prefix(100).enumerated() {
            var diagonal = row[0]
            row[0] = i + 1
            for (j, other) in second.enumerated() {
                let replaced = diagonal + (character == other ? 0 : 1)
                diagonal = row[j + 1]
                row[j + 1] = min(replaced, row[j] + 1, diagonal + 1)
            }
        }
        return row[second.count]
    }
}

/// An option of `lora train` that a file may set.
private struct TrainOption {
    let name: String
    let isFlag: Bool
    /// Whether there is a `--no-` form.
    let isInvertible: Bool

    /// Options that make no sense in a file.
    private static let excluded: Set<String> = ["config", "help", "version"]

    /// By name, as the argument parser itself knows them.
    static let all: OrderedDictionary<String, TrainOption> = {
        let help = try? JSONValue(parsing: TrainCommand._dumpHelp())
        var areFlags: OrderedDictionary<String, Bool> = [:]
        for argument in help?["command"]?["arguments"]?.arrayValue ?? [] {
            for name in argument["names"]?.arrayValue ?? [] where name["kind"]?.stringValue == "long" {
                if let name = name["name"]?.stringValue { areFlags[name] = argument["kind"]?.stringValue == "flag" }
            }
        }
        var options: OrderedDictionary<String, TrainOption> = [:]
        for (name, isFlag) in areFlags where !excluded.contains(name) {
            if name.hasPrefix("no-"), areFlags[String(name.dropFirst(3))] != nil { continue }
            options[name] = TrainOption(name: name, isFlag: isFlag, isInvertible: areFlags["no-\(name)"] != nil)
        }
        return options
    }()

    /// The words of a command line that set the option to `value`.
    /// - Throws: `FormatError` for a value that no command line could give.
    func words(_ value: YAMLNode) throws(FormatError) -> [String] {
        if isFlag {
            guard case .scalar(_, .bool(let isOn)) = value.content else {
                throw FormatError("\(name) must be true or false")
            }
            return isOn ? ["--\(name)"] : isInvertible ? ["--no-\(name)"] : []
        }
        return ["--\(name)=\(try argument(value))"]
    }

    private func argument(_ value: YAMLNode) throws(FormatError) -> String {
        if let text = value.text { return text }
        if let list = value.list {
            let texts = list.compactMap(\.text)
            if !texts.isEmpty, texts.count == list.count { return texts.joined(separator: ",") }
        }
        if let members = value.mapping {
            let texts = members.compactMap { key, member in member.value.text.map { "\(key)=\($0)" } }
            if !texts.isEmpty, texts.count == members.count { return texts.joined(separator: ",") }
        }
        throw FormatError("\(name) must be a text, a number, or a list or mapping of them")
    }
}
