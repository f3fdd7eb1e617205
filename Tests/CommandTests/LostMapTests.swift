import Foundation
import Testing

@Suite("A map that is lost")
struct LostMapTests {
    @Test("SIGBUS ends the process with one line and status 1")
    func oneLine() throws {
        let folder = FileManager.default.temporaryDirectory.appending(path: "lora-map-\(UUID().uuidString)")
        try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true)
        defer { try? FileManager.default.removeItem(at: folder) }
        var isSent = false
        // It waits for its input, which never comes; the signal does once it is caught.
        let output = try Program.run(
            ["tokenize", "--base", Fixtures.tinyBase(), "-"], directory: folder,
            script: "mkfifo input && exec \"$0\" \"$@\" <> input",
            whileRunning: { process, _ in
                guard !isSent, Self.catchesBusErrors(process) else { return }
                isSent = true
                kill(process, SIGBUS)
            })
        #expect(isSent)
        #expect(output.status == 1)
        #expect(output.errors.hasPrefix("Error: a mapped file was truncated"))
        #expect(output.errorLines.count == 1)
    }

    /// proc(5): `SigCgt` is a mask of the signals that are caught, the first bit being signal 1.
    private static func catchesBusErrors(_ process: Int32) -> Bool {
        let status = FileManager.default.contents(atPath: "/proc/\(process)/status") ?? Data()
        let line = String(decoding: status, as: UTF8.self).split(separator: "\n").first { $0.hasPrefix("SigCgt:") }
        let mask = line.flatMap { UInt64($0.dropFirst(7).trimmingCharacters(in: .whitespaces), radix: 16) } ?? 0
        return mask >> (UInt64(SIGBUS) - 1) & 1 == 1
    }
}
