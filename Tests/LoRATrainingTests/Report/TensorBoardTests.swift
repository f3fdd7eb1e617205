import Foundation
import LoRAFormats
import OrderedCollections
import TestSupport
import Testing

@testable import LoRATraining

@Suite("TensorBoard's event files")
struct TensorBoardTests {
    let directory = FileManager.default.temporaryDirectory.appending(path: "lora-events-\(UUID().uuidString)")

    private func events() throws -> [[EventReader.Event]] {
        try FileManager.default.contentsOfDirectory(atPath: directory.path).sorted().map { name in
            #expect(name.hasPrefix("events.out.tfevents."))
            return try EventReader.events([UInt8](Data(contentsOf: directory.appending(path: name))))
        }
    }

    @Test("CRC-32C of RFC 3720's examples and of the digits")
    func checksum() {
        #expect(CRC32C.checksum(Array("123456789".utf8)) == 0xE306_9283)
        #expect(CRC32C.checksum([UInt8](repeating: 0, count: 32)) == 0x8A91_36AA)
        #expect(CRC32C.checksum([UInt8](repeating: 0xFF, count: 32)) == 0x62A8_AB43)
        #expect(CRC32C.checksum(Array(0..<32)) == 0x46DD_794E)
        #expect(CRC32C.checksum([]) == 0)
    }

    @Test("Numbers are written as Protocol Buffers' guide shows: 150 in field 1 is 08 96 01")
    func varint() {
        var message = ProtobufMessage()
        message.add(1, varint: 150)
        #expect(message.bytes == [0x08, 0x96, 0x01])
        var text = ProtobufMessage()
        text.add(2, "testing")
        #expect(text.bytes == [0x12, 0x07] + Array("testing".utf8))
    }

    @Test("A file begins with its version and a session's start; each event is one frame")
    func file() throws {
        defer { try? FileManager.default.removeItem(at: directory) }
        let recorder = try TensorBoardRecorder(directory: directory.path)
        try recorder.begin([])
        try recorder.record(ReportRecords.step(1, loss: 0.75, metrics: ["rewards/margins": -0.5]))
        try recorder.record(ReportRecords.evaluation(1, metrics: ["rewards/accuracies": 1]))
        try recorder.record(ReportRecords.step(300, loss: .infinity, blocks: []))
        let files = try events()
        try #require(files.count == 1)
        let events = files[0]
        #expect(events.map(\.step) == [0, 1, 1, 1, 300])
        #expect(events[0].fileVersion == "brain.Event:2")
        #expect(events[1].sessionStatus == 1)
        let scalars = Dictionary(uniqueKeysWithValues: events[2].scalars.map { ($0.tag, $0.value) })
        #expect(
            scalars == [
                "train/loss": 0.75, "train/learning_rate": 1e-3, "train/grad_norm": 2, "train/epoch": 0.1,
                "train/tokens_per_second": 200, "memory/peak_rss_bytes": Float(1 << 29), "grad_norm/block_0": 0.5,
                "grad_norm/block_1": 0.25, "train/rewards/margins": -0.5,
            ])
        #expect(events[3].scalars.map(\.tag) == ["valid/loss", "valid/rewards/accuracies"])
        #expect(events[3].scalars.map(\.value) == [1.5, 1])
        #expect(events[4].scalars.first { $0.tag == "train/loss" }?.value == .infinity)
        #expect(abs(events[2].wallTime - Date().timeIntervalSince1970) < 3600)
    }

    @Test("A run that goes on writes another file, which takes over from the step after those it knows of")
    func resumed() throws {
        defer { try? FileManager.default.removeItem(at: directory) }
        let killed = try TensorBoardRecorder(directory: directory.path)
        try killed.begin([])
        for step in 1...3 { try killed.record(ReportRecords.step(step)) }
        let resumed = try TensorBoardRecorder(directory: directory.path)
        try resumed.begin([ReportRecords.step(1), ReportRecords.step(2), ReportRecords.evaluation(2)])
        try resumed.record(ReportRecords.step(3))
        let files = try events()
        try #require(files.count == 2)
        #expect(files[1].map(\.step) == [0, 3, 3])
        #expect(files[1].map(\.sessionStatus) == [nil, 1, nil])
    }

    @Test("Where the earlier files are gone, what is known of earlier steps is written again")
    func elsewhere() throws {
        defer { try? FileManager.default.removeItem(at: directory) }
        let recorder = try TensorBoardRecorder(directory: directory.path)
        try recorder.begin([ReportRecords.step(1), ReportRecords.step(2)])
        try recorder.record(ReportRecords.step(3))
        let files = try events()
        #expect(files.map { $0.map(\.step) } == [[0, 1, 1, 2, 3]])
    }

    @Test("A place that is no directory is refused by its name")
    func refusal() throws {
        try Data("x".utf8).write(to: directory)
        defer { try? FileManager.default.removeItem(at: directory) }
        let error = #expect(throws: FormatError.self) {
            _ = try TensorBoardRecorder(directory: directory.path)
        }
        #expect(error.map { "\($0)" }?.hasPrefix(directory.path + ": ") ?? false)
    }
}
