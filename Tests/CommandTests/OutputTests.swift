import Foundation
import LoRAFormats
import TestSupport
import Testing

@Suite("Outputs that cannot be written")
struct OutputTests {
    private func arguments(_ output: String) throws -> [String] {
        [
            "train", "--base", try Fixtures.tinyBase(), "--data", try Fixtures.animals(), "--output", output, "--steps",
            "1000000",  // a run that is not refused at once does not end
        ]
    }

    @Test("A path under a file, a directory that is not there, a directory, no regular file, nothing")
    func places() throws {
        try withDirectory { directory in
            try refusal(arguments("/dev/null/x.lora"), naming: ["/dev/null/x.lora", "Not a directory"])
            try refusal(
                arguments(directory.path + "/none/x.lora"), naming: [directory.path + "/none", "No such file"])
            try refusal(arguments(directory.path), naming: [directory.path, "directory"])
            try refusal(arguments(directory.path + "/x/"), naming: ["directory"])
            try refusal(arguments("/dev/null"), naming: ["/dev/null", "not a regular file"])
            try refusal(arguments(""), naming: ["path"])
            try refusal(arguments("/proc/x.lora"), naming: ["/proc/x.lora"])
            #expect(try names(in: directory).isEmpty)
        }
    }

    @Test("Neither the base nor the data is overwritten")
    func sources() throws {
        try withDirectory { directory in
            let (base, data) = (directory.appending(path: "base.bin"), directory.appending(path: "rows.jsonl"))
            try TinyBase(seed: 1).write(to: base.path)
            try data.write(Fixtures.rows(0..<3))
            let before = [try base.bytes(), try data.bytes()]
            let start = ["train", "--base", base.path, "--data", data.path, "--output"]
            try refusal(start + [base.path], naming: [base.path, "is the base", "--output"])
            try refusal(start + [data.path], naming: [data.path, "is the training data", "--output"])
            let link = directory.appending(path: "link.lora")
            try FileManager.default.createSymbolicLink(at: link, withDestinationURL: base)
            try refusal(start + [link.path], naming: [link.path, "is the base"])
            #expect(try [base.bytes(), data.bytes()] == before)
        }
    }

    @Test("A file that may not grow: refused before training, the old adapter as it was")
    func fileSizeLimit() throws {
        try withDirectory { directory in
            let file = directory.appending(path: "x.lora")
            try file.write("the old adapter")
            for trap in ["", "trap '' XFSZ; "] {
                try refusal(
                    arguments(file.path), script: "\(trap)ulimit -f 64; exec \"$0\" \"$@\"",
                    naming: [file.path, "File too large"])
                #expect(try file.bytes() == Array("the old adapter".utf8))
                #expect(try names(in: directory) == ["x.lora"])
            }
        }
    }

    /// A file system of 64 KiB, mounted where only the command sees it.
    @Test("A full disk: refused before training, the old adapter as it was")
    func fullDisk() throws {
        try withDirectory { directory in
            // Where nobody may mount, the file size limit above stands for the full disk; here the log says so.
            let probe = try Program.run([], script: "unshare -m true")
            guard probe.status == 0 else {
                return print("cannot mount a small file system here: \(probe.errors)")
            }
            let script = """
                mount -t tmpfs -o size=64k lora "$DISK" && echo old > "$DISK/x.lora" || exit 99
                "$0" "$@"
                status=$?
                { ls -A "$DISK"; cat "$DISK/x.lora"; } > "$DISK.after"
                exit $status
                """
            let disk = directory.appending(path: "disk")
            try FileManager.default.createDirectory(at: disk, withIntermediateDirectories: false)
            try refusal(
                arguments(disk.path + "/x.lora"), environment: ["DISK": disk.path, "SCRIPT": script],
                script: "exec unshare -m sh -c \"$SCRIPT\" \"$0\" \"$@\"",
                naming: [disk.path + "/x.lora", "No space left on device"])
            #expect(try directory.appending(path: "disk.after").bytes() == Array("x.lora\nold\n".utf8))
        }
    }

    @Test("Progress that nobody reads does not end the run")
    func closedErrors() throws {
        try withDirectory { directory in
            let path = directory.appending(path: "x.lora").path
            try lora(
                TrainTests.arguments(URL(filePath: path)),
                script: "{ \"$0\" \"$@\"; echo $? >&3; } 3>&1 2>&1 >/dev/null | :")
            #expect(try AdapterFile.read(path: path).record.rank == 8)
        }
    }
}
