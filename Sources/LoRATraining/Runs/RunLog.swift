internal import Glibc
internal import LoRAFormats

/// `run.jsonl`: a line of JSON for each step and each validation, there as soon as it happened.
public final class RunLog: RunRecorder {
    private let path: String
    private var descriptor: Int32 = -1

    public init(path: String) { self.path = path }

    deinit { if descriptor >= 0 { close(descriptor) } }

    /// Makes the log what the run knows: lines of steps that happen again are not in it twice.
    /// - Throws: `FormatError` with the system's reason.
    public func begin(_ history: [RunEvent]) throws {
        var file = try AtomicFile(path: path)
        for event in history { try file.write(Self.line(event)) }
        try file.commit()
        do {
            descriptor = try SystemCall.check("cannot open the file") { open(path, O_WRONLY | O_APPEND | O_CLOEXEC) }
        } catch { throw error.located(in: path) }
    }

    /// - Throws: `FormatError` with the system's reason.
    public func record(_ event: RunEvent) throws {
        // In one call, so that a process that is killed leaves no half of a line.
        let line = Self.line(event)
        var written = 0
        while written < line.count {
            do {
                written += try SystemCall.check("cannot write") {
                    line[written...].withUnsafeBytes { write(descriptor, $0.baseAddress, $0.count) }
                }
            } catch { throw error.located(in: path) }
        }
    }

    private static func line(_ event: RunEvent) -> [UInt8] { Array((event.json.serialized() + "\n").utf8) }
}
