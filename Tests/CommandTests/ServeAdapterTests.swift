import Foundation
import LoRAFormats
import Testing

/// The command around the server; what it answers is tested in LoRAServingTests and by Scripts/serve_check.py.
@Suite("lora serve-adapter")
struct ServeAdapterTests {
    @Test("It tells where it listens, and ends with 0 after SIGTERM")
    func listens() throws {
        try withDirectory { directory in
            var isSent = false
            let output = try Program.run(
                [
                    "serve-adapter", "--base", Fixtures.tinyBase(), "--adapters", directory.path, "--host", "127.0.0.1",
                    "--port", "0", "--max-sequences", "2", "--max-adapter-memory", "64MiB", "--drain-timeout", "1s",
                    "--log-level", "warning", "--threads", "1",
                ],
                whileRunning: { process, printed in
                    guard !isSent, printed().contains("listening on http://127.0.0.1:") else { return }
                    isSent = true
                    kill(process, SIGTERM)
                })
            #expect(isSent && output.status == 0, "\(output.errors)")
        }
    }

    @Test("--new-key prints a key once and notes it in --keys")
    func newKey() throws {
        try withDirectory { directory in
            let file = directory.appending(path: "keys.yaml")
            let arguments = ["serve-adapter", "--new-key", "alice", "--keys", file.path]
            let key = try lora(arguments + ["--quiet"]).text.split(separator: "\n")
            try #require(key.count == 1)
            let keys = String(decoding: try file.bytes(), as: UTF8.self)
            #expect(keys.contains("alice") && !keys.contains(key[0]))
            try refusal(arguments, naming: ["alice"])
        }
    }

    @Test(
        "Options that need another are wrong usage without it",
        arguments: [
            ("serve-adapter --base b", "--adapters"), ("serve-adapter --new-key alice", "--keys"),
            ("serve-adapter --base b --adapters a --tls-certificate c", "--tls-key"),
            ("serve-adapter --base b --adapters a --tls-key k", "--tls-certificate"),
            ("serve-adapter --base b --adapters a --port 65536", "--port must be"),
            ("serve-adapter --base b --adapters a --max-sequences 0", "--max-sequences must be"),
        ])
    func usage(_ arguments: String, _ message: String) throws {
        let output = try Program.run(arguments.split(separator: " ").map(String.init))
        #expect(output.status == 64)
        #expect(output.errors.hasPrefix("Error: ") && output.errors.contains(message), "\(output.errors)")
    }
}
