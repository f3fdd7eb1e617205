import Foundation
import Testing

@testable import LoRAFormats

@Suite("Atomic files")
struct AtomicFileTests {
    private func bytes(at path: String) throws -> [UInt8] { [UInt8](try Data(contentsOf: URL(filePath: path))) }

    @Test("a file is written, then replaced, and keeps its permissions")
    func replaces() throws {
        try Support.withDirectory { directory in
            let path = directory + "/a"
            try AtomicFile.write("one", to: path)
            #expect(try bytes(at: path) == Array("one".utf8))
            #expect(chmod(path, 0o640) == 0)
            var file = try AtomicFile(path: path)
            try file.write(Array("tw".utf8))
            try file.write(Array("o".utf8))
            #expect(file.count == 3)
            #expect(try bytes(at: path) == Array("one".utf8))
            try file.commit()
            #expect(try bytes(at: path) == Array("two".utf8))
            let mode = try FileManager.default.attributesOfItem(atPath: path)[.posixPermissions] as? Int
            #expect(mode == 0o640)
            #expect(try Support.names(in: directory) == ["a"])
        }
    }

    @Test("an instance that goes away leaves the old file and nothing else")
    func abandons() throws {
        struct Interrupted: Error {}
        try Support.withDirectory { directory in
            let path = directory + "/a"
            try AtomicFile.write("old", to: path)
            #expect(throws: Interrupted.self) {
                var file = try AtomicFile(path: path)
                try file.write(Array("new".utf8))
                #expect(try Support.names(in: directory).count == 2)
                throw Interrupted()
            }
            #expect(try Support.names(in: directory) == ["a"])
            #expect(try bytes(at: path) == Array("old".utf8))
        }
    }

    @Test("a symbolic link stays one; the file behind it is replaced")
    func symbolicLink() throws {
        try Support.withDirectory { directory in
            try AtomicFile.write("old", to: directory + "/real")
            try FileManager.default.createSymbolicLink(
                atPath: directory + "/link", withDestinationPath: directory + "/real")
            try AtomicFile.write("new", to: directory + "/link")
            #expect(try bytes(at: directory + "/real") == Array("new".utf8))
            #expect(
                try FileManager.default.destinationOfSymbolicLink(atPath: directory + "/link") == directory + "/real")
        }
    }

    @Test("what cannot be written is refused with the reason")
    func refusals() throws {
        try Support.withDirectory { directory in
            #expect(
                Support.message { try AtomicFile.write("x", to: directory + "/no/such/file") }
                    == "\(directory)/no/such/file: cannot write in the directory '\(directory)/no/such': No such file or directory"
            )
            #expect(Support.message { try AtomicFile.write("x", to: directory) }.contains("is a directory"))
            #expect(Support.message { try AtomicFile.write("x", to: directory + "/") }.contains("names a directory"))
            #expect(Support.message { try AtomicFile.write("x", to: "") }.contains("not a path"))
            #expect(Support.message { try AtomicFile.write("x", to: "/dev/null") }.contains("not a regular file"))
            // Root may write anywhere but into the kernel's own file systems, so this holds for every user.
            #expect(
                Support.message { try AtomicFile.write("x", to: "/proc/self/lora") }
                    .contains("cannot write in the directory '/proc/self'"))
            let left = try Support.names(in: directory)
            #expect(left.isEmpty)
        }
    }

    @Test("a disk that fills up half way leaves the old file and nothing else", arguments: [0, 1])
    func fullDisk(replaced: Int) throws {
        try Support.withDirectory { directory in
            let path = directory + "/a"
            if replaced == 1 { try AtomicFile.write("old", to: path) }
            let message = Support.message {
                var file = try AtomicFile(path: path)
                try file.write(Array("first part".utf8))
                // From here on the kernel answers every write as on a full disk.
                let full = open("/dev/full", O_WRONLY)
                try #require(full >= 0)
                try #require(dup2(full, file.descriptor) == file.descriptor)
                close(full)
                try file.write([UInt8](repeating: 1, count: 100_000))
                try file.commit()
            }
            #expect(message == "\(path): cannot write: No space left on device")
            #expect(try Support.names(in: directory) == (replaced == 1 ? ["a"] : []))
            if replaced == 1 { #expect(try bytes(at: path) == Array("old".utf8)) }
        }
    }
}

@Suite("Mapped files")
struct MappedFileTests {
    @Test("what cannot be mapped is refused with the reason")
    func refusals() throws {
        try Support.withDirectory { directory in
            #expect(Support.message { _ = try MappedFile(path: directory) }.contains("is a directory"))
            #expect(
                Support.message { _ = try MappedFile(path: directory + "/none") }
                    == directory + "/none: cannot open the file: No such file or directory")
            #expect(Support.message { _ = try MappedFile(path: "/dev/null") }.contains("not a regular file"))
            try Data().write(to: URL(filePath: directory + "/empty"))
            #expect(Support.message { _ = try MappedFile(path: directory + "/empty") }.contains("is empty"))
            try #require(mkfifo(directory + "/pipe", 0o600) == 0)
            #expect(Support.message { _ = try MappedFile(path: directory + "/pipe") }.contains("not a regular file"))
        }
    }

    @Test("bytes and identity")
    func bytes() throws {
        try Support.withFile([1, 2, 3]) { path in
            let map = try MappedFile(path: path)
            #expect(Array(map.bytes) == [1, 2, 3])
            #expect(map.identity == (try MappedFile(path: path)).identity)
            #expect(Support.message { _ = try MappedFile(path: path, limit: 2) }.contains("more than the 2"))
            try AtomicFile.write([1, 2, 4], to: path)
            // The map goes on showing the file that was opened.
            #expect(Array(map.bytes) == [1, 2, 3])
            #expect(map.identity != (try MappedFile(path: path)).identity)
        }
    }
}
