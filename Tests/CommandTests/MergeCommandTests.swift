import Foundation
import LoRAFormats
import OrderedCollections
import Testing

@Suite("merge and unmerge")
struct MergeCommandTests {
    /// A directory with a copy of the tiny base and an adapter for it.
    private func withBase(_ body: (_ base: URL, _ adapter: String) throws -> Void) throws {
        try withDirectory { directory in
            let base = directory.appending(path: "base.bin")
            try FileManager.default.copyItem(atPath: Fixtures.tinyBase(), toPath: base.path)
            try body(base, Fixtures.trainedAdapter())
        }
    }

    private func digest(_ file: URL) throws -> String {
        try file.bytes().withUnsafeBytes { Digest.hexadecimal(of: $0) }
    }

    /// All names but that of the fingerprint's cache.
    private func files(beside base: URL) throws -> [String] {
        try names(in: base.deletingLastPathComponent()).filter { !$0.hasSuffix(".fingerprint") }
    }

    /// Another adapter for the tiny base.
    private func second(_ directory: URL) throws -> String {
        let path = directory.appending(path: "second.lora").path
        try Fixtures.write(Fixtures.trainedParts(), to: path) { _, values in values = values.map { $0 * 0.5 } }
        return path
    }

    @Test("A merged base loses what base and adapter lose, and says what is in it")
    func output() throws {
        try withBase { base, adapter in
            let before = try digest(base)
            let merged = base.deletingLastPathComponent().appending(path: "merged.bin")
            let data = try Fixtures.animals()
            let result = try json(
                lora([
                    "merge", adapter, "--into", base.path, "--output", merged.path, "--data", data, "--json", "--quiet",
                ]))
            #expect(
                keys(result) == [
                    "base", "output", "undo", "method", "type", "adapters", "tensors", "surviving_share",
                    "relative_error", "worst", "loss", "seconds",
                ])
            #expect(result["undo"]?.isNull == true)
            #expect(try #require(result["surviving_share"]?.doubleValue) > 0.9999)
            let unmergedLoss = try #require(result["loss"]?["unmerged"]?.doubleValue)
            let mergedLoss = try #require(result["loss"]?["merged"]?.doubleValue)
            // Both are computed with the best element type that the CPU has.
            #expect(abs(unmergedLoss - mergedLoss) < 0.03 * unmergedLoss)
            let measured = try json(
                lora([
                    "eval", "--base", base.path, "--adapter", adapter, "--data", data, "--metrics", "loss", "--json",
                    "--quiet",
                ]))
            let losses = try #require(measured["results"]?.arrayValue).compactMap { $0["loss"]?.doubleValue }
            #expect(abs(losses[1] - unmergedLoss) < 1e-6 && losses[0] > 1.1 * mergedLoss)
            #expect(try digest(base) == before)
            #expect(try files(beside: base) == ["base.bin", "merged.bin"])
            guard case .strings(let names)? = try GGUFFile(path: merged.path).metadata["lora.merge.names"] else {
                Issue.record("no record of the merge")
                return
            }
            #expect(names == ["trained.lora"])
            let facts = try json(lora(["inspect", merged.path, "--json"]))
            #expect(facts["merged"]?.arrayValue == [.string("trained.lora:1.0 (linear)")])
        }
    }

    @Test("Merges in place are taken back one at a time, bit for bit; an open map goes on as before")
    func inPlace() throws {
        try withBase { base, adapter in
            let map = try MappedFile(path: base.path)
            let first = Array(map.bytes)
            let other = try second(base.deletingLastPathComponent())
            try lora(["merge", adapter, "--into", base.path, "--type", "q8_0", "--quiet"])
            let between = try digest(base)
            try refusal(["merge", adapter, "--into", base.path], naming: [adapter, "merged already", "--again"])
            #expect(try digest(base) == between)
            try lora(["merge", "\(other):-0.25", "--into", base.path, "--quiet"])
            #expect(Array(map.bytes) == first)
            let record = try json(lora(["unmerge", base.path, "--json"]))
            #expect(record["sha256"]?.stringValue == between)
            #expect(record["undone"]?.arrayValue == [.string("\(other):-0.25")])
            #expect(try digest(base) == between)
            try lora(["unmerge", base.path])
            #expect(try base.bytes() == first)
            #expect(try files(beside: base) == ["base.bin", "second.lora"])
            try refusal(["unmerge", base.path], naming: [base.path, "nothing to undo"])
        }
    }

    @Test(
        "Every method writes a base that runs",
        arguments: [["--method", "ties"], ["--method", "dare", "--seed", "3"]])
    func methods(arguments: [String]) throws {
        try withBase { base, adapter in
            let directory = base.deletingLastPathComponent()
            let merged = directory.appending(path: "merged.bin").path
            try lora(
                ["merge", adapter, second(directory), "--into", base.path, "--output", merged, "--density", "0.4"]
                    + arguments)
            try lora(["generate", "--base", merged, "--prompt", "a", "--max-tokens", "2"])
        }
    }

    // MARK: Refusals

    @Test("Wrong input: one error that names all of it, and nothing is written")
    func refusals() throws {
        try withBase { base, adapter in
            let (before, directory) = (try digest(base), base.deletingLastPathComponent())
            let damaged = directory.appending(path: "damaged.lora").path
            try Fixtures.write(Fixtures.trainedParts(), to: damaged) { name, values in
                if name.contains("layers.1.") { values[0] = .infinity }
            }
            let merge = ["merge", adapter, "--into", base.path]
            try refusal(
                ["merge", adapter, "--into", Fixtures.otherBase(), "--output", directory.path + "/m.bin"],
                naming: [adapter, "another base", "--allow-other-base"])
            try refusal(["merge", damaged, "--into", base.path], naming: [damaged, "not finite"])
            try refusal(["merge", adapter, damaged, adapter, "--into", base.path], naming: [damaged, "not finite"])
            try refusal(["merge", adapter, adapter, "--into", base.path], naming: [adapter, "merged already"])
            try refusal(merge + ["--output", base.path], naming: [base.path, "is read by this merge"])
            try refusal(merge + ["--output", adapter], naming: [adapter, "is read by this merge"])
            try refusal(merge + ["--data", directory.path], naming: [directory.path])
            try refusal(merge + ["--output", directory.path + "/no/m.bin"], naming: ["/no/m.bin"])
            try refusal(["merge", adapter, "--into", adapter], naming: [adapter, "not a GGUF file"])
            try refusal(["unmerge", base.path], naming: ["nothing to undo"])
            try refusal(["unmerge", directory.path + "/none"], naming: ["/none", "cannot find the file"])
            try directory.appending(path: "base.bin.undo").write("something else, and long enough for a footer")
            try refusal(["unmerge", base.path], naming: ["base.bin.undo"])
            try refusal(merge, naming: ["base.bin.undo"])
            #expect(try digest(base) == before)
            #expect(try files(beside: base) == ["base.bin", "base.bin.undo", "damaged.lora"])
        }
    }

    @Test(
        "Wrong usage",
        arguments: [
            ["merge", "--into", "b"], ["merge", "a.lora"], ["merge", "a.lora:x:nan", "--into", "b"],
            ["merge", "a.lora", "--into", "b", "--density", "0.5"],
            ["merge", "a.lora", "--into", "b", "--method", "ties", "--density", "0"],
            ["merge", "a.lora", "--into", "b", "--method", "ties", "--seed", "1"],
            ["merge", "a.lora", "--into", "b", "--type", "q4_0"], ["merge", "a.lora", "--into", "b", "--limit", "3"],
            ["unmerge"],
        ])
    func usage(arguments: [String]) throws {
        #expect(try Program.run(arguments).status == 64)
    }

    // MARK: Trouble

    @Test("Killed at any moment, the base is the old one or the new one, and can be taken back")
    func killed() throws {
        try withBase { base, adapter in
            let directory = base.deletingLastPathComponent()
            let old = try digest(base)
            try lora(["merge", adapter, "--into", base.path, "--quiet"])
            let new = try digest(base)
            try lora(["unmerge", base.path])
            var generator = SystemRandomNumberGenerator()
            var (killed, replaced) = (0, 0)
            for _ in 0..<20 {
                let delay = useconds_t.random(in: 0...60_000, using: &generator)
                let run = try Program.run(["merge", adapter, "--into", base.path, "--quiet"]) { child, _ in
                    usleep(delay)
                    kill(child, SIGKILL)
                }
                killed += run.status == 128 + SIGKILL ? 1 : 0
                let state = try digest(base)
                #expect(state == old || state == new)
                if state == new {
                    replaced += 1
                    try lora(["unmerge", base.path])
                    #expect(try digest(base) == old)
                }
                for name in try names(in: directory) where name.hasSuffix(".tmp") {
                    try FileManager.default.removeItem(at: directory.appending(path: name))
                }
            }
            #expect(killed > 0, "\(replaced) of 20 merges were done")
            // What the killed ones left behind is in nobody's way.
            try lora(["merge", adapter, "--into", base.path, "--quiet"])
            #expect(try digest(base) == new)
        }
    }

    @Test("A file that may not grow: the old base, no record, nothing else")
    func fileSizeLimit() throws {
        try withBase { base, adapter in
            let before = try digest(base)
            // The base has some 400 blocks of 512 bytes; the adapter is read, not written.
            for blocks in [1, 100, 300] {
                try refusal(
                    ["merge", adapter, "--into", base.path],
                    script: "ulimit -f \(blocks); exec \"$0\" \"$@\"", naming: ["base.bin", "File too large"])
                #expect(try digest(base) == before)
                #expect(try files(beside: base) == ["base.bin"])
            }
        }
    }

    /// There is no room for the new base, or for it but not for the record of changes.
    @Test("A full disk: the old base, no record, nothing else", arguments: [-40, 24])
    func fullDisk(kilobytesBesideBase: Int) throws {
        try withBase { base, adapter in
            // Where nobody may mount, the file size limit above stands for the full disk; here the log says so.
            let probe = try Program.run([], script: "unshare -m true")
            guard probe.status == 0 else {
                return print("cannot mount a small file system here: \(probe.errors)")
            }
            let room = try base.bytes().count / 1024 + kilobytesBesideBase
            let script = """
                mount -t tmpfs -o size=2048k lora "$DISK" && cp "$BASE" "$DISK/base.bin" || exit 99
                free=$(df --output=avail -k "$DISK" | tail -n 1)
                head -c $(((free - \(room)) * 1024)) /dev/zero > "$DISK/filler" || exit 99
                "$0" "$@"
                status=$?
                ls -A "$DISK" | grep -v fingerprint > "$DISK.names"; cp "$DISK/base.bin" "$DISK.after"
                exit $status
                """
            let disk = base.deletingLastPathComponent().appending(path: "disk")
            try FileManager.default.createDirectory(at: disk, withIntermediateDirectories: false)
            try refusal(
                ["merge", adapter, "--into", disk.path + "/base.bin"],
                environment: ["DISK": disk.path, "SCRIPT": script, "BASE": base.path],
                script: "exec unshare -m sh -c \"$SCRIPT\" \"$0\" \"$@\"",
                naming: [disk.path, "No space left on device"])
            let folder = base.deletingLastPathComponent()
            #expect(try folder.appending(path: "disk.names").bytes() == Array("base.bin\nfiller\n".utf8))
            #expect(try digest(folder.appending(path: "disk.after")) == digest(base))
        }
    }

    /// Root may write anywhere but where the file system is mounted read-only.
    @Test("A read-only directory: the reason, and the base as it was")
    func readOnly() throws {
        try withBase { base, adapter in
            let directory = base.deletingLastPathComponent()
            let before = try digest(base)
            let mounts = try Program.run([], script: "unshare -m true").status == 0
            let script =
                mounts
                ? "exec unshare -m sh -c 'mount --bind \"$DIR\" \"$DIR\" && mount -o remount,ro,bind \"$DIR\" || exit 99; exec \"$0\" \"$@\"' \"$0\" \"$@\""
                : "chmod a-w \"$DIR\"; \"$0\" \"$@\"; status=$?; chmod u+w \"$DIR\"; exit $status"
            guard mounts || geteuid() != 0 else { return print("root may write everywhere here and mount nothing") }
            try refusal(
                ["merge", adapter, "--into", base.path], environment: ["DIR": directory.path], script: script,
                naming: [base.path, "cannot write in the directory"])
            #expect(try digest(base) == before)
            #expect(try files(beside: base) == ["base.bin"])
        }
    }
}
