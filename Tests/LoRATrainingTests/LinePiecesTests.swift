import Foundation
import LoRAFormats
import Testing

@testable import LoRATraining

@Suite("Pieces of a file of lines")
struct LinePiecesTests {
    private func pieces(_ text: String, step: Int, longest: Int = 1000) throws -> [LinePieces.Piece] {
        try TestFiles.withTemporaryDirectory { directory in
            let file = directory.appending(path: "lines")
            try Data(text.utf8).write(to: file)
            let source = try OpenFile(path: file.path)
            var pieces = LinePieces(step: step, longest: longest)
            var all: [LinePieces.Piece] = []
            while let piece = try pieces.next(of: source) { all.append(piece) }
            return all
        }
    }

    private let text = "one\n\ntwo and more\r\n" + String(repeating: "x", count: 40) + "\nlast, without an end"

    @Test(
        "Whatever is read at a time, the pieces are whole lines and make the file", arguments: [1, 2, 3, 7, 19, 4096])
    func wholeLines(step: Int) throws {
        let pieces = try pieces(text, step: step)
        #expect(pieces.flatMap(\.bytes) == Array(text.utf8))
        var line = 1
        for (index, piece) in pieces.enumerated() {
            #expect(piece.firstLine == line)
            #expect(piece.bytes.last == 0x0A || index == pieces.count - 1)
            line += piece.bytes.count { $0 == 0x0A }
        }
        #expect(line == 5)
    }

    @Test("A line that is too long is told with its length, and the lines after it are read", arguments: [3, 8, 4096])
    func longLine(step: Int) throws {
        let pieces = try pieces("a\n" + String(repeating: "x", count: 10_000) + "\nb\nc", step: step, longest: 20)
        let refused = pieces.filter { $0.refusedBytes != nil }
        #expect(refused.map(\.refusedBytes) == [10_000])
        #expect(refused.map(\.firstLine) == [2])
        #expect(String(decoding: pieces.flatMap(\.bytes), as: UTF8.self) == "a\nb\nc")
        #expect(pieces.last?.firstLine == 3)
    }

    @Test("A long line may be the last, without an end")
    func longLastLine() throws {
        let pieces = try pieces("a\n" + String(repeating: "x", count: 100), step: 8, longest: 20)
        #expect(pieces.map(\.refusedBytes) == [nil, 100])
    }

    @Test("A byte order mark is passed over where the file begins with it, whatever is read at a time")
    func byteOrderMark() throws {
        #expect(try pieces("\u{FEFF}a\nb", step: 4096).flatMap(\.bytes) == Array("a\nb".utf8))
        #expect(try pieces("\u{FEFF}a\nb", step: 3).flatMap(\.bytes) == Array("a\nb".utf8))
        #expect(try pieces("\u{FEFF}", step: 8).isEmpty)
    }

    @Test("Parts of a piece are whole lines with their numbers")
    func parts() throws {
        let lines = (1...5000).map { "line \($0)\(String(repeating: ".", count: $0 % 90))" }
        let text = lines.joined(separator: "\n")
        let piece = try #require(try pieces(text, step: 1 << 20).first)
        for count in [1, 2, 5, 1000] {
            let parts = piece.parts(count)
            #expect(parts.count <= count + 1)
            #expect(parts.flatMap { piece.bytes[$0.bytes] } == piece.bytes)
            for part in parts {
                let first = piece.bytes[part.bytes].split(separator: 0x0A)[0]
                #expect(String(decoding: first, as: UTF8.self) == lines[part.firstLine - 1])
            }
        }
        #expect(piece.parts(5).count > 2)
    }
}
