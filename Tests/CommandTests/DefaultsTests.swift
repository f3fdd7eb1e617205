import Foundation
import LoRAFormats
import Testing

@Suite("Defaults of lora train")
struct DefaultsTests {
    @Test("Saying what --help tells as the default changes no bit")
    func explicit() throws {
        try withDirectory { directory in
            let output = directory.appending(path: "x.lora")
            let defaults = [
                "--shuffle", "--rank", "8", "--alpha", "16", "--target", "attention", "--layers", "all",
                "--learning-rate", "1e-3", "--schedule", "linear", "--warmup", "0.03", "--seed", "0",
                "--max-grad-norm", "1", "--compute", "auto", "--checkpointing", "auto", "--precision", "bf16",
            ]
            let digests = try [[], defaults].map { more in
                try lora(
                    [
                        "train", "--base", Fixtures.tinyBase(), "--data", Fixtures.animals(), "--output", output.path,
                        "--steps", "3", "--quiet",
                    ] + more)
                return try AdapterFile.read(path: output.path).tensorDigest
            }
            #expect(digests[0] == digests[1])
        }
    }
}
