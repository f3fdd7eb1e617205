import Foundation
import Testing

@testable import LoRAFormats

@Suite("Replacements that can be undone")
struct UndoTests {
    /// Bytes of which a half can be packed.
    private func bytes(_ count: Int, seed: UInt64) -> [UInt8] {
        var generator = SeededGenerator(seed: seed)
        return (0..<count).map { $0 % 2 == 0 ? UInt8.random(in: .min ... .max, using: &generator) : 7 }
    }

    private func contents(_ path: String) throws -> [UInt8] { [UInt8](try Data(contentsOf: URL(filePath: path))) }

    /// Replaces the file: a new head in place of its first 100 bytes, bytes 150..<400 copied, 400..<900 changed, the rest
    /// left out, a tail added.
    @discardableResult
    private func replace(_ path: String, head: Int, seed: UInt64 = 9) throws -> UndoableReplacement {
        let old = try MappedFile(path: path)
        let replacement = try UndoableReplacement(of: old, byteCount: head + 770, names: ["x.lora:1.0"])
        try bytes(head, seed: seed).withUnsafeBytes { try replacement.write($0) }
        try replacement.copies(150..<400)
        try replacement.write(UnsafeRawBufferPointer(rebasing: old.bytes[150..<400]))
        let changed = old.bytes[400..<900].map { $0 &+ 1 }
        try changed.withUnsafeBytes { new in
            try replacement.changes(400..<900, to: new)
            try replacement.write(new)
        }
        try bytes(20, seed: seed + 1).withUnsafeBytes { try replacement.write($0) }
        return replacement
    }

    @Test(
        "The earlier bytes come back, of several replacements one at a time; whoever has the old file goes on with it")
    func chain() throws {
        try Support.withDirectory { directory in
            let path = directory + "/base.bin"
            var states = [bytes(3_000_000, seed: 1)]
            try Support.overwrite(path, states[0])
            for (index, head) in [130, 180, 2000].enumerated() {
                let map = try MappedFile(path: path)
                let replacement = try replace(path, head: head)
                #expect(replacement.after == nil)
                try replacement.commit()
                states.append(try contents(path))
                #expect(replacement.after == FileState(of: try MappedFile(path: path)))
                #expect(Array(map.bytes) == states[index])
                #expect(states[index + 1].count == head + 770)
            }
            #expect(try Support.names(in: directory) == ["base.bin", "base.bin.undo"])
            for index in (0..<3).reversed() {
                let record = try UndoFile.restore(path: path)
                #expect(record.names == ["x.lora:1.0"])
                #expect(try contents(path) == states[index])
            }
            #expect(try Support.names(in: directory) == ["base.bin"])
            #expect(Support.message { try UndoFile.restore(path: path) }.contains("nothing to undo: there is no"))
        }
    }

    @Test("A replacement that goes away leaves the file and its records as they were")
    func abandoned() throws {
        try Support.withDirectory { directory in
            let path = directory + "/base.bin"
            try Support.overwrite(path, bytes(1000, seed: 1))
            try replace(path, head: 210).commit()
            let before = try [contents(path), contents(path + ".undo")]
            try replace(path, head: 220)
            #expect(try [contents(path), contents(path + ".undo")] == before)
            #expect(try Support.names(in: directory) == ["base.bin", "base.bin.undo"])
        }
    }

    /// The moment between the two renames: the record is there, the file is still the old one.
    @Test("A record whose replacement never happened is passed over")
    func interrupted() throws {
        try Support.withDirectory { directory in
            let path = directory + "/base.bin"
            let (first, undo) = (bytes(1000, seed: 1), path + ".undo")
            try Support.overwrite(path, first)
            try replace(path, head: 210).commit()
            try Support.overwrite(path, first)
            #expect(Support.message { try UndoFile.restore(path: path) }.contains("is as it was before the merge"))
            #expect(try contents(path) == first)
            // The next replacement drops it.
            try replace(path, head: 230).commit()
            #expect(try UndoFile(path: undo)?.places.count == 1)
            let second = try contents(path)
            try replace(path, head: 240).commit()
            try Support.overwrite(path, second)
            try UndoFile.restore(path: path)
            #expect(try contents(path) == first)
            #expect(!FileManager.default.fileExists(atPath: undo))
        }
    }

    /// The moment between an undone file's rename and the cut of its record.
    @Test("A record that was undone already is passed over")
    func undoneTwice() throws {
        try Support.withDirectory { directory in
            let path = directory + "/base.bin"
            let first = bytes(1000, seed: 1)
            try Support.overwrite(path, first)
            try replace(path, head: 210).commit()
            let second = try contents(path)
            try replace(path, head: 220).commit()
            let records = try contents(path + ".undo")
            try UndoFile.restore(path: path)
            #expect(try contents(path) == second)
            try Support.overwrite(path + ".undo", records)
            try UndoFile.restore(path: path)
            #expect(try contents(path) == first)
        }
    }

    @Test("Records of another file are refused, by undoing and by replacing; nothing changes")
    func otherFile() throws {
        try Support.withDirectory { directory in
            let path = directory + "/base.bin"
            try Support.overwrite(path, bytes(1000, seed: 1))
            try replace(path, head: 210).commit()
            let strange = bytes(1000, seed: 2)
            try Support.overwrite(path, strange)
            let records = try contents(path + ".undo")
            for message in [
                Support.message { try UndoFile.restore(path: path) }, Support.message { try replace(path, head: 210) },
            ] {
                #expect(message.contains("base.bin.undo: belongs to another file"))
            }
            #expect(try contents(path) == strange)
            #expect(try contents(path + ".undo") == records)
            #expect(try Support.names(in: directory) == ["base.bin", "base.bin.undo"])
        }
    }

    @Test("By a link, the file behind it is replaced and undone")
    func link() throws {
        try Support.withDirectory { directory in
            let first = bytes(1000, seed: 1)
            try Support.overwrite(directory + "/real.bin", first)
            try FileManager.default.createSymbolicLink(
                atPath: directory + "/link.bin", withDestinationPath: directory + "/real.bin")
            try replace(directory + "/link.bin", head: 210).commit()
            #expect(try Support.names(in: directory) == ["link.bin", "real.bin", "real.bin.undo"])
            try UndoFile.restore(path: directory + "/real.bin")
            #expect(try contents(directory + "/link.bin") == first)
        }
    }

    @Test("Two at a time are refused, and so is one from a file that was replaced since")
    func twoAtATime() throws {
        try Support.withDirectory { directory in
            let path = directory + "/base.bin"
            try Support.overwrite(path, bytes(1000, seed: 1))
            let map = try MappedFile(path: path)
            let running = try replace(path, head: 210)
            #expect(Support.message { try replace(path, head: 220) }.contains("another process is replacing this file"))
            #expect(Support.message { try UndoFile.restore(path: path) }.contains("another process"))
            try running.commit()
            let message = Support.message { _ = try UndoableReplacement(of: map, byteCount: 10, names: []) }
            #expect(message.contains("was replaced while it was read"))
            let late = try replace(path, head: 230)
            let other = bytes(1000, seed: 3)
            try AtomicFile.write(other, to: path)
            #expect(Support.message { try late.commit() }.contains("was replaced while it was read"))
            #expect(try contents(path) == other)
        }
    }

    // MARK: Damage

    private func damaged(_ body: (_ records: [UInt8], _ attempt: ([UInt8]) throws -> UndoRecord) throws -> Void) throws
    {
        try Support.withDirectory { directory in
            let path = directory + "/base.bin"
            let first = bytes(1200, seed: 1)
            try Support.overwrite(path, first)
            try replace(path, head: 210).commit()
            let second = try contents(path)
            try body(try contents(path + ".undo")) { records in
                try Support.overwrite(path + ".undo", records)
                do {
                    let record = try UndoFile.restore(path: path)
                    // Whatever was damaged did not matter.
                    #expect(try contents(path) == first)
                    try Support.overwrite(path, second)
                    return record
                } catch {
                    let present = try contents(path)
                    #expect(present == second)
                    throw error
                }
            }
        }
    }

    @Test("Part of a record is refused")
    func truncated() throws {
        try damaged { records, attempt in
            for count in stride(from: 1, to: records.count, by: 7) {
                #expect(throws: FormatError.self) { try attempt(Array(records[..<count])) }
            }
        }
    }

    @Test("A damaged record restores the earlier bytes or nothing")
    func changed() throws {
        try damaged { records, attempt in
            var count = 0
            // A whole attempt flushes files to disk: for most variants reading the records must do.
            Damage.change(records) { variant in
                count += 1
                if count % 8 == 0 {
                    _ = try attempt(variant)
                } else {
                    _ = try Support.withFile(variant) { try UndoFile(path: $0) }
                }
            }
        }
    }

    @Test("Texts that lie are refused")
    func lies() throws {
        try damaged { records, attempt in
            let undo = try Support.withFile(records) { try #require(try UndoFile(path: $0)) }
            let record = try #require(undo.places.first?.record)
            let stream = Array(records[try #require(undo.places.first).stream])
            for (segments, part) in [
                ([UndoRecord.Segment.literal(count: 1 << 40)], "expected 1200"),
                ([.copy(offset: 0, count: 1201)], "outside the file"),
                ([.change(offset: .max, count: 1200)], "outside the file"),
                ([.literal(count: .max), .literal(count: .max)], "too long"),
                ([.literal(count: 0), .literal(count: 1200)], "no kind and length"),
                ([.literal(count: 1200)], "damaged or too few"),
                ([.copy(offset: 0, count: 700), .copy(offset: 0, count: 500)], "restores has SHA-256"),
            ] as [([UndoRecord.Segment], String)] {
                let lie = UndoRecord(before: record.before, after: record.after, names: [], segments: segments)
                let text = Array(lie.json.serialized().utf8)
                var file = stream + text
                file.append(littleEndian: UInt64(stream.count))
                file.append(littleEndian: UInt64(text.count))
                file.append(littleEndian: UndoRecord.magic)
                #expect(Support.message { _ = try attempt(file) }.contains(part), "\(segments)")
            }
        }
    }
}
