import LoRAFormats
import Testing

@Suite("Usage")
struct UsageTests {
    static let commands = [
        "train", "eval", "generate", "inspect", "tokenize", "import", "export", "merge", "unmerge", "serve-adapter",
    ]

    @Test("--help tells defaults and shows an example", arguments: commands)
    func help(_ command: String) throws {
        for arguments in [[command, "--help"], ["help", command]] {
            let output = try lora(arguments)
            #expect(output.text.contains("USAGE: lora \(command)"))
            #expect(output.text.contains("Example:\n"))
            #expect(output.text.contains("lora \(command) "))
            #expect(output.text.contains("default: all cores"))
            #expect(output.text.contains("--quiet"))
            #expect(output.errors.isEmpty)
        }
    }

    @Test("--help of train names every option's default")
    func trainingDefaults() throws {
        let help = try lora(["train", "--help"]).text
        let text = help.split(whereSeparator: \.isWhitespace).joined(separator: " ")
        for part in [
            "Rank of A and B (default: 8).", "(default: 16).", "(default: attention)", "(default: all)",
            "(default: 1)", "(default: 2048)", "(default: 0.001)", "default: linear)", "(default: 0.03)",
            "(default: 0.0)", "(default: 1.0)", "default: auto)", "default: bf16)", "(default: 0)",
            "(default: 1.5GiB)",
        ] { #expect(text.contains(part), "\(part) in \(text)") }
    }

    @Test("The program alone and its --help tell the commands; --version the version")
    func root() throws {
        for arguments in [[], ["--help"]] {
            let output = try lora(arguments)
            for part in Self.commands + ["Example:"] { #expect(output.text.contains(part), "\(part)") }
        }
        let version = try lora(["--version"]).text
        #expect(version.split(separator: ".").count == 3 && version.hasSuffix("\n"), "\(version)")
    }

    static let wrong: [(arguments: String, message: String)] = [
        ("train --data d", "--base"), ("train --base b", "--data"), ("eval --base b", "--data"),
        ("generate --base b", "--prompt"), ("inspect", "<file>"), ("tokenize text", "--base"),
        ("fly", "fly"), ("train --base b --data d --flag", "--flag"),
        ("train --base b --data d --epochs 1 --steps 2", "--epochs and --steps exclude each other"),
        ("train --base b --data d --epochs 0", "--epochs must be"),
        ("train --base b --data d --steps 0", "--steps must be"),
        ("train --base b --data d --steps 9223372036854775807", "--steps must be"),
        ("train --base b --data d --steps ten", "ten"),
        ("train --base b --data d --rank 0", "--rank must be"),
        ("train --base b --data d --rank 5000", "--rank must be"),
        ("train --base b --data d --alpha 0", "--alpha must be"),
        ("train --base b --data d --alpha nan", "--alpha must be"),
        ("train --base b --data d --dropout 1", "--dropout must be"),
        ("train --base b --data d --dropout nan", "--dropout must be"),
        ("train --base b --data d --batch-size 0", "--batch-size must be"),
        ("train --base b --data d --max-length 1", "--max-length must be"),
        ("train --base b --data d --learning-rate 0", "--learning-rate must be"),
        ("train --base b --data d --learning-rate inf", "--learning-rate must be"),
        ("train --base b --data d --schedule stairs", "stairs"),
        ("train --base b --data d --warmup 1.5", "--warmup must be"),
        ("train --base b --data d --weight-decay=-1", "--weight-decay must"),
        ("train --base b --data d --max-grad-norm=-1", "--max-grad-norm must"),
        ("train --base b --data d --compute f64", "f64"), ("train --base b --data d --precision f64", "f64"),
        ("train --base b --data d --checkpointing perhaps", "perhaps"),
        ("train --base b --data d --max-memory much", "much"), ("train --base b --data d --seed=-1", "-1"),
        ("train --base b --data d --target nothing", "nothing"),
        ("train --base b --data d --target q_proj,q_proj", "q_proj,q_proj"),
        ("train --base b --data d --layers 3-1", "3-1"), ("train --base b --data d --threads 0", "--threads must be"),
        ("train --base b --data d --dry-run --json", "exclude each other"),
        ("train --base b --data d --eval-every 0", "--eval-every must be"),
        ("train --base b --data d --patience 0", "--patience must be"),
        ("train --base b --data d --save-every 0", "--save-every must be"),
        ("train --base b --data d --keep worst", "worst"),
        ("train --base b --data d --resume a --checkpoints b", "--resume and --checkpoints exclude each other"),
        ("train --base b --data d --lora-plus-ratio 0", "--lora-plus-ratio must be"),
        ("train --base b --data d --rank-pattern q_proj", "q_proj"),
        ("train --base b --data d --rank-pattern q_proj=1.5", "--rank-pattern must"),
        ("train --base b --data d --rank-pattern q_proj=1,q_proj=2", "q_proj=1,q_proj=2"),
        ("train --base b --data d --alpha-pattern q_proj=0", "--alpha-pattern must"),
        ("train --base b --data d --find-lr --save-every 2", "--find-lr and --save-every exclude each other"),
        ("train --base b --data d --find-lr --epochs 2", "--find-lr and --epochs exclude each other"),
        ("train --base b --data d --find-lr --dry-run", "--find-lr and --dry-run exclude each other"),
        ("train --base b --data d --mask first", "first"), ("train --base b --data d --hold-out 0", "'0'"),
        ("train --base b --data d --hold-out 1.5", "1.5"), ("train --base b --data d --hold-out=-3", "-3"),
        ("eval --base b --data d --limit 0", "--limit must be"), ("eval --base b --data d --split half", "half"),
        ("eval --base b --data d --metrics speed", "speed"), ("eval --base b --data d --show=-1", "--show must"),
        ("eval --base b --data d --metrics loss --show 2", "--show needs --metrics exact-match"),
        ("eval --base b --data d --mask first", "first"), ("eval --base b --data d --beta 0", "--beta must be"),
        ("generate --base b --prompt p --max-tokens 0", "--max-tokens must be"),
        ("generate --base b --prompt p --max-tokens 9223372036854775807", "--max-tokens must be"),
        ("generate --base b --prompt p --temperature=-1", "--temperature must"),
        ("generate --base b --prompt p --top-k=-1", "--top-k must"),
        ("generate --base b --prompt p --top-p 0", "--top-p must"),
        ("generate --base b --prompt p --min-p 2", "--min-p must"),
        ("generate --base b --prompt p --raw --system s", "--system"),
        ("generate --base b --prompt p --adapter x.lora:nan", "x.lora:nan"),
        ("tokenize --base b", "TEXT or --messages"), ("tokenize --base b t --messages m", "TEXT or --messages"),
        ("tokenize --base b t --text-only", "--text-only goes with"),
        ("tokenize --base b t --template t", "--template goes with"),
        ("import s", "--output"), ("import s --output o --type q4_0", "q4_0"),
        ("import s --output o --base b --type f16", "--type is for bases"),
        ("import s --output o --precision f16", "--precision is for adapters"),
        ("export x --output o", "--format"), ("export x --output o --format zip", "zip"),
        ("export x --output o --format peft", "--base"), ("export x --output o --format hf --base b", "--base"),
    ]

    @Test(
        "--init-adapter excludes what it brings along",
        arguments: [
            "rank 4", "alpha 4", "rslora", "dora", "target q_proj", "layers 1", "rank-pattern q_proj=1",
            "alpha-pattern q_proj=1",
        ])
    func initialAdapter(_ option: String) throws {
        let name = try #require(option.split(separator: " ").first)
        try wrongUsage(
            "train --base b --data d --init-adapter x --\(option)", "--init-adapter excludes --\(name):")
    }

    @Test("Wrong usage ends with 64, names the culprit and leads to the help", arguments: wrong)
    func wrongUsage(_ arguments: String, _ message: String) throws {
        let output = try Program.run(arguments.split(separator: " ").map(String.init))
        #expect(output.status == 64)
        #expect(output.bytes.isEmpty)
        #expect(output.errors.hasPrefix("Error: "))
        #expect(output.errors.contains(message), "\(output.errors)")
        #expect(output.errors.contains("--help"))
    }
}
