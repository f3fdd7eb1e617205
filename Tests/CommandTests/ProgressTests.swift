import Testing

@testable import lora

@Suite("Progress of lora train")
struct ProgressTests {
    @Test("The line fits the terminal, whatever its width", arguments: [1, 10, 40, 80, 200])
    func width(_ width: Int) {
        let (counter, facts) = ("step 120/375", "loss 0.1234  2198 tokens/s  1m05s left")
        let line = TrainingProgress.line(counter, facts, share: 0.32, width: width)
        #expect(line.count < max(width, 2))
        #expect(line.contains("[") == (width >= 80))
        if width >= 80 { #expect(line.hasPrefix(counter) && line.hasSuffix(facts)) }
    }

    @Test("The bar is empty at the beginning and full at the end")
    func bar() {
        for (share, cells) in [(0, "        "), (0.5, "====    "), (1, "========")] as [(Double, String)] {
            #expect(TrainingProgress.line("1", "x", share: share, width: 17) == "1  [\(cells)]  x")
        }
    }

    @Test(
        "The default output is called after the data, whose directory may have a dot in its name",
        arguments: [
            ("datasets/smart-home", "smart-home"), ("datasets/icd-10.2/", "icd-10.2"), ("a/rows.jsonl", "rows"),
            ("rows.v2.json", "rows.v2"),
        ])
    func outputName(_ data: String, _ name: String) {
        #expect(TrainCommand.name(ofData: data) == name)
    }

    @Test("The command to resume is one that a shell reads back")
    func resumeCommand() {
        let arguments = ["lora", "train", "--data", "my data", "--resume=old", "--checkpoints", "c", "--log", "it's"]
        #expect(
            TrainCommand.commandToResume(arguments, checkpoints: "x.lora.checkpoints")
                == "lora train --data 'my data' --log 'it'\\''s' --resume x.lora.checkpoints")
    }
}
