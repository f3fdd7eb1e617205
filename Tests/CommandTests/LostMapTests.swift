import Foundation
import Testing

@Suite("A map that is lost")
struct LostMapTests {
    @Test("SIGBUS ends the process with one line and status 1")
    func oneLine() throws {
        let process = Process()
        process.executableURL = URL(filePath: try Program.path.get())
        process.arguments = ["tokenize", "--base", try Fixtures.tinyBase(), "-"]
        let (input, errors) = (Pipe(), Pipe())
        (process.standardInput, process.standardError) = (input, errors)
        try process.run()
        // It waits for its input; the signal comes once it is caught.
        while try !Self.catchesBusErrors(process.processIdentifier) { usleep(1000) }
        kill(process.processIdentifier, SIGBUS)
        process.waitUntilExit()
        #expect(process.terminationReason == .exit)
        #expect(process.terminationStatus == 1)
        let message = String(decoding: errors.fileHandleForReading.readDataToEndOfFile(), as: UTF8.self)
        #expect(message.hasPrefix("Error: a mapped file was truncated"))
        #expect(message.filter { $0 == "\n" }.count == 1)
    }

    /// proc(5): `SigCgt` is a mask of the signals that are caught, the first bit being signal 1.
    private static func catchesBusErrors(_ process: Int32) throws -> Bool {
        let status = try String(contentsOfFile: "/proc/\(process)/status", encoding: .utf8)
        let line = status.split(separator: "\n").first { $0.hasPrefix("SigCgt:") }
        let mask = line.flatMap { UInt64($0.dropFirst(7).trimmingCharacters(in: .whitespaces), radix: 16) } ?? 0
        return mask >> (UInt64(SIGBUS) - 1) & 1 == 1
    }
}
