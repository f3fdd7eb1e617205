public import ArgumentParser
import Foundation
public import Logging
import LoRAFormats
import LoRAServing

/// `lora serve-adapter`: one base and every adapter of a directory, behind the OpenAI interface.
struct ServeAdapterCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "serve-adapter",
        abstract: "Serve the base and a directory of adapters over HTTP, as the OpenAI interface has it.",
        discussion: """
            Requests choose an adapter by "model"; files that appear in the directory, change or go are served, swapped
            or retired while requests run. SIGTERM ends after running requests; SIGHUP reads the keys again.

            Example:
              lora serve-adapter --base models/base.bin --adapters adapters --port 8080
              curl http://127.0.0.1:8080/v1/chat/completions -H 'Content-Type: application/json' \\
                -d '{"model": "smart-home", "messages": [{"role": "user", "content": "dim the kitchen to 30"}]}'
            """)

    @Option(help: ArgumentHelp("The base model, a GGUF file.", valueName: "file"))
    var base: String?

    @Option(help: ArgumentHelp("The directory of .lora files.", valueName: "directory"))
    var adapters: String?

    @Option(help: ArgumentHelp("Where to listen; without --keys on loopback only.", valueName: "address"))
    var host = "127.0.0.1"

    @Option(help: "The port; 0 takes a free one and prints it.")
    var port = 8080

    @Option(help: ArgumentHelp("The API keys and what each may use.", valueName: "file"))
    var keys: String?

    @Option(help: ArgumentHelp("Make a key, add it to --keys, print it once, and end.", valueName: "name"))
    var newKey: String?

    @Option(
        help: ArgumentHelp("Memory for loaded adapters (default: a quarter of the machine's).", valueName: "size"))
    var maxAdapterMemory: ByteSize?

    @Option(help: ArgumentHelp("How long running requests may go on after SIGTERM.", valueName: "time"))
    var drainTimeout = TimeSpan(seconds: 30)

    @Option(help: "Requests that are computed at a time.")
    var maxSequences = 16

    @Option(help: ArgumentHelp("Serve HTTPS with this certificate chain in PEM form.", valueName: "file"))
    var tlsCertificate: String?

    @Option(help: ArgumentHelp("The certificate's private key in PEM form.", valueName: "file"))
    var tlsKey: String?

    @Option(help: "Least level of what is logged: trace, debug, info, notice, warning, error or critical.")
    var logLevel = Logger.Level.info

    @OptionGroup var common: CommonOptions

    func validate() throws {
        if newKey != nil {
            guard keys != nil else { throw ValidationError("--new-key needs --keys, the file to add the key to") }
            return
        }
        guard base != nil, adapters != nil else { throw ValidationError("--base and --adapters are needed") }
        guard (0...65535).contains(port) else { throw ValidationError("--port must be from 0 to 65535") }
        guard (1...128).contains(maxSequences) else { throw ValidationError("--max-sequences must be from 1 to 128") }
        guard (tlsCertificate == nil) == (tlsKey == nil) else {
            throw ValidationError("--tls-certificate and --tls-key go together")
        }
    }

    func run() async throws {
        if let newKey, let keys { return try makeKey(newKey, in: keys) }
        guard let base, let adapters else { return }
        let exporter = PrometheusExporter()
        let level = common.quiet ? max(logLevel, .warning) : logLevel
        LoggingSystem.bootstrap { StructuredLogHandler(label: $0, logLevel: level) }
        var options = InferenceServer.Options(base: base, adapters: adapters)
        (options.host, options.port, options.keys) = (host, port, keys)
        (options.certificate, options.privateKey) = (tlsCertificate, tlsKey)
        options.adapterBytes = maxAdapterMemory?.bytes ?? Int(ProcessInfo.processInfo.physicalMemory / 4)
        options.sequences = maxSequences
        options.threads = common.threads
        options.drainTimeout = drainTimeout.duration
        let server = try InferenceServer(options, exporter: exporter, logger: Logger(label: "lora"))
        try await server.run { Console.note("listening on \($0)") }
    }

    private func makeKey(_ name: String, in keys: String) throws {
        Console.print(try AccessControl.makeKey(id: name, in: keys))
        if !common.quiet {
            Console.note("added to \(keys); name its adapters there, then send SIGHUP to a running server")
        }
    }
}

extension Logger.Level: @retroactive ExpressibleByArgument {}

/// A time: `30s`, `5m`, `1.5h`, `500ms`, or seconds without a unit.
struct TimeSpan: ExpressibleByArgument {
    let duration: Duration

    init(seconds: Int) { duration = .seconds(seconds) }

    init?(argument: String) {
        let units: [(String, Double)] = [("ms", 0.001), ("s", 1), ("m", 60), ("h", 3600), ("", 1)]
        guard let (suffix, unit) = units.first(where: { argument.hasSuffix($0.0) }),
            let number = Double(argument.dropLast(suffix.count)), number >= 0, number * unit <= 1e9
        else { return nil }
        duration = .seconds(number * unit)
    }

    var defaultValueDescription: String { "\(duration.components.seconds)s" }
}
