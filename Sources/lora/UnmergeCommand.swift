import ArgumentParser
import LoRAFormats
import OrderedCollections

/// `lora unmerge`: the base as it was before the last merge into it.
struct UnmergeCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "unmerge",
        abstract: "Take the last in-place merge back: the exact earlier bytes.",
        discussion: """
            Several merges are taken back one at a time, the last one first.

            Example:
              lora unmerge models/base.bin
            """)

    @Argument(help: "The base, with its .undo file beside it.")
    var base: String

    @Flag(help: "Print one JSON object.")
    var json = false

    @OptionGroup var common: CommonOptions

    func run() throws {
        let record = try UndoFile.restore(path: base)
        if json {
            Console.print(
                JSONValue.object([
                    "base": .string(base), "undone": .array(record.names.map { .string($0) }),
                    "bytes": .integer(Int64(record.before.size)), "sha256": .string(record.before.digest),
                ]).serialized())
        } else {
            let names = Console.oneLine(record.names.joined(separator: ", "))
            Console.print("\(base): took back \(names); SHA-256 \(record.before.digest)")
        }
    }
}
