import Foundation
import Testing

@Suite("A map that is lost")
struct LostMapTests {
    @Test("SIGBUS ends the process with one line and status 1")
    func oneLine() throws {
        let folder = FileManager.default.temporaryDirectory.appending(path: "lora-map-\(UUID().uuidString)")
        try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true)
        defer { try? FileManager.default.removeItem(at: folder) }
        let base = try Fixtures.tinyBase()
        var isSent = false
        // It waits for its input, which never comes; the signal does once the base is mapped.
        let output = try Program.run(
            ["tokenize", "--base", base, "-"], directory: folder,
            script: "mkfifo input && exec \"$0\" \"$@\" <> input",
            whileRunning: { process, _ in
                guard !isSent, Self.hasMapped(base, process) else { return }
                isSent = true
                kill(process, SIGBUS)
            })
        #expect(isSent)
        #expect(output.status == 1)
        #expect(output.errors.hasPrefix("Error: a mapped file was truncated"))
        #expect(output.errorLines.count == 1)
    }

    /// Whether it has come as far as to map `base`. That a signal is caught tells less: Swift's runtime catches it first.
    private static func hasMapped(_ base: String, _ process: Int32) -> Bool {
        // `FileManager` would read one page of a file that tells no size.
        let file = try? FileHandle(forReadingFrom: URL(filePath: "/proc/\(process)/maps"))
        let maps = (try? file?.readToEnd()) ?? Data()
        return String(decoding: maps, as: UTF8.self).contains(base)
    }
}
