import Foundation
import Testing

@testable import LoRAFormats

@Suite("ZIP")
struct ZipTests {
    private let text = Array("{\"n\": [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]}".utf8)

    private func sample() throws -> [UInt8] {
        try ZipWriter.serialize([("a/b.json", text), ("é", [1, 2]), ("empty", [])])
    }

    private func readAll(_ bytes: [UInt8]) throws -> [[UInt8]] {
        let archive = try ZipArchive(bytes)
        return try archive.entries.map { try archive.read($0, limit: 1 << 20).array }
    }

    @Test("a round trip, the same bytes every time")
    func roundTrip() throws {
        let bytes = try sample()
        #expect(try bytes == sample())
        let archive = try ZipArchive(bytes)
        #expect(archive.entries.map(\.name) == ["a/b.json", "é", "empty"])
        #expect(try readAll(bytes) == [text, [1, 2], []])
        #expect(try ZipArchive(try ZipWriter.serialize([])).entries.isEmpty)
    }

    @Test("unzip and Python accept what is written")
    func oracles() throws {
        try Support.withDirectory { directory in
            let path = directory + "/a.zip"
            try ZipWriter.write([("a/b.json", text), ("é", [1, 2]), ("empty", [])], to: path)
            let unzip = try runCommand(["unzip", "-t", path])
            #expect(unzip.status == 0, "\(unzip.output)")
            let script = """
                import sys, zipfile
                a = zipfile.ZipFile(sys.argv[1])
                assert a.testzip() is None
                assert a.namelist() == ["a/b.json", "\\u00e9", "empty"], a.namelist()
                assert a.read("\\u00e9") == b"\\1\\2"
                assert a.infolist()[0].date_time == (1980, 1, 1, 0, 0, 0)
                """
            let python = try runCommand(["python3", "-c", script, path])
            #expect(python.status == 0, "\(python.output)")
        }
    }

    @Test(
        "reads what Python wrote, with and without data descriptors", arguments: ["python.zip", "python-streamed.zip"])
    func python(name: String) throws {
        let archive = try ZipArchive(path: Support.goldenPath(name))
        #expect(archive.entries.map(\.name) == ["folder/deflated.json", "stored.bin", "empty", "é.txt"])
        let stored = try archive.read(try #require(archive.entry(named: "stored.bin")), limit: 256)
        #expect(stored.array == Array(0...255))
        let json = try archive.read(try #require(archive.entry(named: "folder/deflated.json")), limit: 1000)
        #expect(try JSONValue(parsing: json.array)["n"]?.arrayValue?.count == 100)
    }

    @Test(
        "reads what the zip program wrote, to a file and to a pipe",
        arguments: ["zip -r a.zip b.json c", "zip -r - b.json c | cat > a.zip"])
    func zipProgram(command: String) throws {
        try Support.withDirectory { directory in
            try AtomicFile.write(text, to: directory + "/b.json")
            try AtomicFile.write([9], to: directory + "/c")
            let zip = try runCommand(["sh", "-c", command], directory: directory)
            try #require(zip.status == 0, "\(zip.output)")
            let archive = try ZipArchive(path: directory + "/a.zip")
            #expect(archive.entries.map(\.name) == ["b.json", "c"])
            #expect(try archive.read(archive.entries[0], limit: 1000).array == text)
        }
    }

    @Test(
        "unsafe names are neither written nor read",
        arguments: [
            ("/abs", "absolute"), ("../up", "'..'"), ("a/../b", "'..'"), ("./a", "'.'"), ("a//b", "empty part"),
            ("a\\b", "backslash"), ("a\0b", "control"), ("a\nb", "control"), ("", "empty"),
        ])
    func unsafeNames(name: String, part: String) throws {
        #expect(Support.message { _ = try ZipWriter.serialize([(name, [1])]) }.contains(part))
        // The same name put into a valid archive in both places.
        let placeholder = String(repeating: "x", count: name.utf8.count)
        guard !name.isEmpty else { return }
        var bytes = try ZipWriter.serialize([(placeholder, [1])])
        for start in bytes.indices where bytes[start...].starts(with: placeholder.utf8) {
            bytes.replaceSubrange(start..<start + name.utf8.count, with: name.utf8)
        }
        #expect(Support.message { _ = try ZipArchive(bytes) }.contains(part))
    }

    @Test("names are there once")
    func duplicates() throws {
        #expect(Support.message { _ = try ZipWriter.serialize([("a", []), ("a", [])]) }.contains("twice"))
        var bytes = try ZipWriter.serialize([("a", [1]), ("b", [2])])
        for index in bytes.indices where bytes[index] == UInt8(ascii: "b") { bytes[index] = UInt8(ascii: "a") }
        #expect(Support.message { _ = try ZipArchive(bytes) }.contains("twice"))
    }

    /// An archive of one entry, with bytes at these distances from the local and the central header replaced.
    private func altered(_ content: [UInt8], local: Int? = nil, central: Int? = nil, end: Int? = nil, with new: [UInt8])
        throws -> [UInt8]
    {
        var bytes = try ZipWriter.serialize([("entry", content)])
        let endStart = bytes.count - 22
        let centralStart = endStart - 46 - 5
        if let local { bytes.replaceSubrange(local..<local + new.count, with: new) }
        if let central { bytes.replaceSubrange(centralStart + central..<centralStart + central + new.count, with: new) }
        if let end { bytes.replaceSubrange(endStart + end..<endStart + end + new.count, with: new) }
        return bytes
    }

    @Test("contradictions between the headers are refused")
    func contradictions() throws {
        for local in [6, 8, 14, 18, 22, 30] {
            let bytes = try altered(text, local: local, with: [0x55])
            #expect(Support.message { _ = try ZipArchive(bytes) }.contains("local header"), "local byte \(local)")
        }
        #expect(Support.message { _ = try ZipArchive(altered(text, local: 0, with: [0])) }.contains("no local header"))
        #expect(Support.message { _ = try ZipArchive(altered(text, central: 0, with: [0])) }.contains("signature"))
        #expect(Support.message { _ = try ZipArchive(altered(text, central: 42, with: [200])) }.contains("byte 200"))
        #expect(Support.message { _ = try ZipArchive(altered(text, end: 16, with: [1])) }.contains("end record"))
    }

    @Test("zip64, encryption, several disks and other methods are refused by name")
    func unsupported() throws {
        let all: [UInt8] = [0xFF, 0xFF, 0xFF, 0xFF]
        #expect(Support.message { _ = try ZipArchive(altered(text, central: 24, with: all)) }.contains("zip64"))
        #expect(Support.message { _ = try ZipArchive(altered(text, end: 10, with: [0xFF, 0xFF])) }.contains("zip64"))
        #expect(
            Support.message { _ = try ZipArchive(altered(text, local: 6, central: 8, with: [1])) }.contains("encrypted")
        )
        #expect(Support.message { _ = try ZipArchive(altered(text, end: 4, with: [1])) }.contains("disks"))
        #expect(
            Support.message { _ = try ZipArchive(altered(text, local: 8, central: 10, with: [14])) }.contains(
                "method 14"))
    }

    @Test("damaged data and bombs are refused")
    func bombs() throws {
        func read(_ bytes: [UInt8], limit: Int = 1 << 20) throws {
            let archive = try ZipArchive(bytes)
            _ = try archive.read(archive.entries[0], limit: limit)
        }
        let zeros = [UInt8](repeating: 0, count: 100_000)
        let honest = try ZipWriter.serialize([("entry", zeros)])
        #expect(Support.message { try read(honest, limit: 99_999) }.contains("more than the 99999"))
        // Claims fewer bytes than it inflates to, more, and far more than deflate can hold.
        func size(_ count: UInt32) -> [UInt8] { withUnsafeBytes(of: count.littleEndian) { Array($0) } }
        func claiming(_ count: UInt32) throws -> [UInt8] {
            var bytes = try altered(zeros, central: 24, with: size(count))
            bytes.replaceSubrange(22..<26, with: size(count))
            return bytes
        }
        #expect(Support.message { try read(claiming(99_999)) }.contains("more than the 99999"))
        #expect(Support.message { try read(claiming(100_001)) }.contains("inflates to 100000 bytes, expected 100001"))
        #expect(Support.message { try read(claiming(4_000_000_000), limit: .max) }.contains("cannot hold"))
        var damaged = honest
        damaged[40] ^= 0x10
        #expect(Support.message { try read(damaged) }.contains("damaged"))
        var checksum = try altered(text, central: 16, with: [1, 2, 3, 4])
        checksum.replaceSubrange(14..<18, with: [1, 2, 3, 4])
        #expect(Support.message { try read(checksum) }.contains("CRC-32"))
    }

    /// Content that is stored as it is, or deflated to about half.
    private func content(_ count: Int, _ method: ZipEntry.Method) -> [UInt8] {
        var state = UInt64(count)
        return (0..<count).map { index in
            state = state &* 6_364_136_223_846_793_005 &+ 1_442_695_040_888_963_407
            return method == .deflated && index % 7 < 3 ? 0 : UInt8(state >> 56)
        }
    }

    @Test(
        "files of any number of pieces are read whole, with their SHA-256",
        arguments: [0, 1, 255 << 10, 256 << 10, (256 << 10) + 1, 512 << 10, (768 << 10) - 1, 1 << 20],
        [ZipEntry.Method.stored, .deflated])
    func pieces(count: Int, method: ZipEntry.Method) throws {
        let content = content(count, method)
        let archive = try ZipArchive(try ZipWriter.serialize([("entry", content)]))
        #expect(count < 100 || archive.entries[0].method == method)
        let read = try archive.readWithDigest(archive.entries[0], limit: count)
        #expect(read.bytes.array == content)
        #expect(read.digest == content.withUnsafeBytes { Digest.hexadecimal(of: $0) })
    }

    @Test("a file that is longer or shorter than it says is refused at the end of any piece")
    func wrongSizes() throws {
        let content = content(512 << 10, .deflated)
        for claimed in [1, 256 << 10, content.count - 1, content.count + 1, 768 << 10] {
            let size = withUnsafeBytes(of: UInt32(claimed).littleEndian) { Array($0) }
            var bytes = try altered(content, central: 24, with: size)
            bytes.replaceSubrange(22..<26, with: size)
            let archive = try ZipArchive(bytes)
            let message = Support.message { _ = try archive.readWithDigest(archive.entries[0], limit: claimed) }
            let expected = claimed < content.count ? "more than the \(claimed)" : "inflates to \(content.count)"
            #expect(message.contains(expected), "\(claimed): \(message)")
        }
    }

    @Test("every truncation is refused; no changed byte crashes", arguments: ["python.zip", "python-streamed.zip"])
    func damage(name: String) throws {
        let golden = try Support.golden(name)
        Damage.truncate(golden) { try readAll($0) }
        Damage.change(golden) { try readAll($0) }
    }
}
