import Foundation
import LoRAFormats
import Testing

/// `--help` is where options are described; everything else that describes them is made of it.
@Suite("Pages about the commands")
struct CommandPagesTests {
    /// Options and positional arguments of a command that its help shows.
    struct Command {
        let name: String
        /// Without the two dashes.
        let options: [String]

        init(_ json: JSONValue) {
            name = json["commandName"]?.stringValue ?? ""
            options = (json["arguments"]?.arrayValue ?? []).filter { $0["shouldDisplay"]?.boolValue ?? false }
                .flatMap { $0["names"]?.arrayValue ?? [] }.filter { $0["kind"]?.stringValue == "long" }
                .compactMap { $0["name"]?.stringValue }
        }
    }

    private static func dump() throws -> [UInt8] { try lora(["--experimental-dump-help"]).bytes }

    private static func commands() throws -> [Command] {
        let root = try #require(try JSONValue(parsing: dump())["command"])
        let commands = (root["subcommands"]?.arrayValue ?? []).map(Command.init).filter { $0.name != "help" }
        #expect(commands.count >= 10)
        #expect(commands.contains { $0.name == "train" && $0.options.contains("learning-rate") })
        return commands
    }

    /// What Scripts/command_pages.py makes of the built command's help.
    private static func page(_ kind: String) throws -> String {
        try withDirectory { directory in
            let input = directory.appending(path: "help.json")
            try input.write(dump())
            let script = Process()
            script.executableURL = URL(filePath: "/usr/bin/env")
            script.arguments = ["python3", Fixtures.package.appending(path: "Scripts/command_pages.py").path, kind]
            script.standardInput = try FileHandle(forReadingFrom: input)
            let pipe = Pipe()
            script.standardOutput = pipe
            try script.run()
            let output = try pipe.fileHandleForReading.readToEnd() ?? Data()
            script.waitUntilExit()
            #expect(script.terminationStatus == 0)
            return String(decoding: output, as: UTF8.self)
        }
    }

    private static func text(_ path: String) throws -> String {
        String(decoding: try Fixtures.package.appending(path: path).bytes(), as: UTF8.self)
    }

    @Test("Documentation/commands.md says what --help says; `make docs` writes it")
    func markdown() throws {
        let (page, file) = (try Self.page("markdown"), try Self.text("Documentation/commands.md"))
        let lines = page.split(separator: "\n", omittingEmptySubsequences: false)
        let difference = lines.difference(from: file.split(separator: "\n", omittingEmptySubsequences: false))
        #expect(difference.isEmpty, "run make docs")
        for command in try Self.commands() {
            let section = try #require(page.components(separatedBy: "\n## lora \(command.name)\n").dropFirst().first)
                .components(separatedBy: "\n## ")[0]
            for option in command.options where option != "help" && option != "version" {
                #expect(section.contains("--\(option)"), "\(command.name) --\(option)")
            }
        }
    }

    @Test("The README has every command in its table, and no option that there is not")
    func readme() throws {
        let (text, commands) = (try Self.text("README.md"), try Self.commands())
        for command in commands { #expect(text.contains("| `lora \(command.name)` |"), "\(command.name)") }
        let known = Set(commands.flatMap(\.options) + ["version"])
        for line in text.split(separator: "\n") where line.contains("lora ") {
            let words = line.split { " `|,;()".contains($0) }.filter { $0.hasPrefix("--") }
            for option in words.map({ $0.dropFirst(2).prefix { $0 == "-" || $0.isLetter } }) where !option.isEmpty {
                #expect(known.contains(String(option)), "\(line)")
            }
        }
    }

    @Test("The man page and the completions of bash, zsh and fish know every option")
    func manualAndCompletions() throws {
        let pages = try ["bash", "zsh", "fish"].map { ($0, try lora(["--generate-completion-script", $0]).text) }
        let manual = try Self.page("man").replacing("\\-", with: "-")
        for command in try Self.commands() {
            #expect(manual.contains(".SS lora \(command.name)\n"), "\(command.name)")
            for option in command.options where option != "version" {
                #expect(manual.contains("--\(option)"), "\(command.name) --\(option)")
                for (shell, page) in pages { #expect(page.contains(option), "\(shell): \(command.name) --\(option)") }
            }
        }
    }

    @Test("Every option is given to the built command by a test")
    func exercised() throws {
        let directory = Fixtures.package.appending(path: "Tests/CommandTests")
        let sources = try names(in: directory).filter { $0.hasSuffix(".swift") }
            .map { String(decoding: try directory.appending(path: $0).bytes(), as: UTF8.self) }.joined(separator: "\n")
        let commands = try Self.commands()
        let commandNames = commands.map(\.name).joined(separator: "|")
        // An argument of its own, or a part of a whole command line.
        let words = sources.matches(of: /"--([a-z][a-z-]*)(?:"|=)/).map { String($0.1) }
        let lines = try sources.matches(of: Regex<(Substring, Substring)>("\"(?:\(commandNames)) ([^\"\n]*)\"")).flatMap
        {
            $0.output.1.split(separator: " ").filter { $0.hasPrefix("--") }.map { word in
                String(word.dropFirst(2).prefix { $0 != "=" })
            }
        }
        let tested = Set(words + lines)
        for command in commands {
            let missing = command.options.filter { !tested.contains($0) }
            #expect(missing.isEmpty, "lora \(command.name) has options that no test gives: \(missing)")
        }
    }
}
