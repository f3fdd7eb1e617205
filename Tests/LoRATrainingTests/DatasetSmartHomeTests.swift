import Foundation
import LoRAFormats
import OrderedCollections
import Testing

/// What `Scripts/build_smart_home.py` promises of the files it writes.
@Suite("The smart-home data set")
struct DatasetSmartHomeTests {
    private struct Row {
        let utterance: String
        let answer: JSONValue
        let text: String

        var intent: String { answer["intent"]?.stringValue ?? "" }
    }

    private func rows(_ split: String) throws -> [Row] {
        let text = try String(contentsOf: TestFiles.smartHome.appending(path: "\(split).jsonl"), encoding: .utf8)
        return try text.split(separator: "\n").map { line in
            let messages = try #require(try JSONValue(parsing: String(line))["messages"]?.arrayValue)
            try #require(messages.count == 2)
            #expect(messages[0]["role"] == .string("user"))
            #expect(messages[1]["role"] == .string("assistant"))
            let answer = try #require(messages[1]["content"]?.stringValue)
            return Row(
                utterance: try #require(messages[0]["content"]?.stringValue),
                answer: try JSONValue(parsing: answer), text: answer)
        }
    }

    @Test("The splits have their sizes", arguments: [("train", 2000), ("valid", 200), ("test", 400)])
    func sizes(split: String, count: Int) throws {
        #expect(try rows(split).count == count)
    }

    @Test(
        "Every answer is compact JSON with an intent and sorted slots of plain values",
        arguments: ["train", "valid", "test"])
    func answers(split: String) throws {
        for row in try rows(split) {
            #expect(row.answer.serialized() == row.text)
            #expect(row.answer.objectValue?.keys.elements == ["intent", "slots"])
            #expect(row.intent.hasPrefix("Hass"))
            let slots = try #require(row.answer["slots"]?.objectValue)
            #expect(slots.keys.elements == slots.keys.sorted())
            for value in slots.values {
                switch value {
                case .string(let text): #expect(!text.isEmpty)
                case .integer: break
                case .number(let number): #expect(number.rounded() != number, "a whole number that is no integer")
                default: Issue.record("\(row.text): a slot that is neither text nor number")
                }
            }
        }
    }

    @Test("Utterances are clean text, without leftovers of template syntax", arguments: ["train", "valid", "test"])
    func utterances(split: String) throws {
        for row in try rows(split) {
            #expect(!row.utterance.isEmpty && row.utterance.count < 120)
            #expect(!row.utterance.contains(where: { "{}[]<>()|;_\"\\".contains($0) }), "\(row.utterance)")
            #expect(row.utterance == row.utterance.trimmingCharacters(in: .whitespacesAndNewlines))
            #expect(!row.utterance.contains("  "))
        }
    }

    @Test("Free text and names in the slots are words of the utterance")
    func copiedSlots() throws {
        for row in try rows("train") + rows("valid") + rows("test") {
            for slot in ["name", "area", "floor", "item", "message", "search_query", "conversation_command"] {
                guard let value = row.answer["slots"]?[slot]?.stringValue else { continue }
                #expect(row.utterance.contains(value), "\(row.utterance): \(value)")
            }
        }
    }

    @Test("No utterance is in two splits, or twice in one")
    func utterancesAreUnique() throws {
        let all = try ["train", "valid", "test"].flatMap { try rows($0).map { $0.utterance.lowercased() } }
        #expect(Set(all).count == all.count)
    }

    @Test("No template is in two splits, and each intent asked for was trained")
    func templates() throws {
        let table = try String(contentsOf: TestFiles.smartHome.appending(path: "templates.tsv"), encoding: .utf8)
        var splits: [String: Set<String>] = [:]
        for line in table.split(separator: "\n") {
            let fields = line.split(separator: "\t").map(String.init)
            try #require(fields.count == 3)
            splits[fields[2], default: []].insert(fields[0])
        }
        #expect(splits.count > 700)
        #expect(splits.values.allSatisfy { $0.count == 1 })
        let trained = Set(try rows("train").map(\.intent))
        #expect(Set(try rows("valid").map(\.intent)).isSubset(of: trained))
        #expect(Set(try rows("test").map(\.intent)).isSubset(of: trained))
    }

    @Test("No intent dominates", arguments: ["train", "test"])
    func balance(split: String) throws {
        let rows = try rows(split)
        let counts = Dictionary(grouping: rows, by: \.intent).mapValues(\.count)
        #expect(counts.count >= 35)
        #expect(try #require(counts.values.max()) * 12 < rows.count)
    }
}
