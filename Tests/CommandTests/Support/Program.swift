import Foundation
import Testing

/// The built `lora` executable, run as a child process.
enum Program {
    /// What a run left behind.
    struct Output {
        /// Exit status, or 128 + the signal that ended it.
        let status: Int32
        let bytes: [UInt8]
        let errors: String
        /// The most memory resident at a time, the map of the base included.
        let peakBytes: Int

        var text: String { String(decoding: bytes, as: UTF8.self) }
        var errorLines: [String] { errors.split(separator: "\n").map(String.init) }
    }

    struct Failure: Error, CustomStringConvertible {
        let description: String
    }

    /// Any run that takes longer hangs.
    private static let deadline = Duration.seconds(90)

    /// The executable beside the test bundle, whatever the build directory and configuration are.
    static let path: Result<String, Failure> = {
        let starts = ["/proc/self/exe", CommandLine.arguments[0], Bundle.main.bundlePath].map {
            URL(filePath: $0).resolvingSymlinksInPath()
        }
        for start in starts {
            var directory = start
            for _ in 0..<4 {
                directory.deleteLastPathComponent()
                let candidate = directory.appending(path: "lora").path
                var isDirectory: ObjCBool = false
                if FileManager.default.fileExists(atPath: candidate, isDirectory: &isDirectory), !isDirectory.boolValue,
                    FileManager.default.isExecutableFile(atPath: candidate)
                {
                    return .success(candidate)
                }
            }
        }
        let places = starts.map(\.path).joined(separator: ", ")
        return .failure(Failure(description: "no executable `lora` beside or above \(places); run swift build first"))
    }()

    /// Runs `lora` with `arguments` and waits for its end.
    /// - Parameters:
    ///   - script: of `sh`, in which `"$0" "$@"` is the program with its arguments.
    ///   - whileRunning: called every few milliseconds with the process's id and what it has printed so far.
    static func run(
        _ arguments: [String], input: [UInt8]? = nil, environment: [String: String] = [:], directory: URL? = nil,
        script: String? = nil, whileRunning: (pid_t, _ printed: () -> String) -> Void = { _, _ in }
    ) throws -> Output {
        let folder = FileManager.default.temporaryDirectory.appending(path: "lora-run-\(UUID().uuidString)")
        try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true)
        defer { try? FileManager.default.removeItem(at: folder) }
        let (inputFile, outputFile, errorFile) = (folder.path + "/in", folder.path + "/out", folder.path + "/err")
        if let input { try Data(input).write(to: URL(filePath: inputFile)) }
        let program = try path.get()
        var variables = ProcessInfo.processInfo.environment.merging(environment) { $1 }
        var script = script
        if let directory {
            variables["DIRECTORY"] = directory.path
            script = "cd \"$DIRECTORY\" || exit 99; " + (script ?? "exec \"$0\" \"$@\"")
        }
        let command = script.map { ["/bin/sh", "-c", $0, program] + arguments } ?? [program] + arguments
        let child = try spawn(
            command, environment: variables, input: input == nil ? "/dev/null" : inputFile, output: outputFile,
            errors: errorFile)
        let read = { (file: String) in
            String(decoding: FileManager.default.contents(atPath: file) ?? Data(), as: UTF8.self)
        }
        let (status, peak) = try wait(child, command) { whileRunning(child) { read(outputFile) + read(errorFile) } }
        return Output(
            status: status, bytes: [UInt8](try Data(contentsOf: URL(filePath: outputFile))), errors: read(errorFile),
            peakBytes: peak)
    }

    private static func spawn(
        _ command: [String], environment: [String: String], input: String, output: String, errors: String
    ) throws -> pid_t {
        var actions = posix_spawn_file_actions_t()
        posix_spawn_file_actions_init(&actions)
        defer { posix_spawn_file_actions_destroy(&actions) }
        posix_spawn_file_actions_addopen(&actions, 0, input, O_RDONLY, 0)
        posix_spawn_file_actions_addopen(&actions, 1, output, O_WRONLY | O_CREAT | O_APPEND, 0o600)
        posix_spawn_file_actions_addopen(&actions, 2, errors, O_WRONLY | O_CREAT | O_APPEND, 0o600)
        // A test's thread blocks signals, and a shell may have it ignore SIGINT; the child shall do neither.
        var attributes = posix_spawnattr_t()
        posix_spawnattr_init(&attributes)
        defer { posix_spawnattr_destroy(&attributes) }
        var signals = sigset_t()
        sigemptyset(&signals)
        posix_spawnattr_setsigmask(&attributes, &signals)
        for number in [SIGINT, SIGTERM, SIGPIPE, SIGXFSZ] { sigaddset(&signals, number) }
        posix_spawnattr_setsigdefault(&attributes, &signals)
        posix_spawnattr_setflags(&attributes, Int16(POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF))
        let words = command.map { strdup($0) }
        let variables = environment.map { strdup("\($0)=\($1)") }
        defer { for pointer in words + variables { free(pointer) } }
        var child: pid_t = 0
        let code = posix_spawn(&child, command[0], &actions, &attributes, words + [nil], variables + [nil])
        guard code == 0 else {
            throw Failure(description: "cannot start \(command[0]): \(String(cString: strerror(code)))")
        }
        return child
    }

    /// The most memory is read while the process runs: what `wait4` tells counts the parent's memory in.
    private static func wait(
        _ child: pid_t, _ command: [String], whileRunning: () -> Void
    ) throws -> (status: Int32, peakBytes: Int) {
        let start = ContinuousClock.now
        var peak = 0
        var status: Int32 = 0
        while waitpid(child, &status, WNOHANG) == 0 {
            peak = max(peak, highWaterMark(of: child))
            whileRunning()
            guard ContinuousClock.now - start < deadline else {
                kill(child, SIGKILL)
                waitpid(child, &status, 0)
                throw Failure(description: "did not end within \(deadline): \(command.joined(separator: " "))")
            }
            usleep(2000)
        }
        let signal = status & 0x7F
        return (signal == 0 ? (status >> 8) & 0xFF : 128 + signal, peak)
    }

    private static func highWaterMark(of process: pid_t) -> Int {
        statusField("VmHWM", of: process).flatMap { Int($0) }.map { $0 * 1024 } ?? 0
    }

    /// Whether a process has a handler for a signal yet, without which it ends at once.
    static func handles(_ signal: Int32, _ process: pid_t) -> Bool {
        let caught = statusField("SigCgt", of: process).flatMap { UInt64($0, radix: 16) } ?? 0
        return caught & 1 << UInt64(signal - 1) != 0
    }

    /// The first word of a line of `/proc/<process>/status`; nil once the process has ended.
    private static func statusField(_ name: String, of process: pid_t) -> Substring? {
        let data = FileManager.default.contents(atPath: "/proc/\(process)/status") ?? Data()
        let line = String(decoding: data, as: UTF8.self).split(separator: "\n").first { $0.hasPrefix(name + ":") }
        return line?.split(whereSeparator: \.isWhitespace).dropFirst().first
    }
}
