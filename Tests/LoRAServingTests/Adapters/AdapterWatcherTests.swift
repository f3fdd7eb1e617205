import Foundation
import LoRAFormats
import Logging
import OrderedCollections
import Testing

@testable import LoRAServing

@Suite("Adapter watcher")
struct AdapterWatcherTests {
    @Test("a file that appears, changes by rename or in place, or goes is published, replaced, retired")
    func life() async throws {
        let fixture = try AdapterFixture()
        let store = try fixture.store()
        #expect(store.entries.isEmpty)
        try fixture.write(AdapterVersion(1), "a.lora")
        await eventually("published") { store.entry("a") != nil }
        let first = try await store.snapshot(named: "a")
        #expect(first.value == 1)
        try fixture.write(AdapterVersion(2), "a.lora")
        try await eventually("replaced by rename") { try await store.snapshot(named: "a").value == 2 }
        #expect(store.entry("a")?.swaps == 1)
        try fixture.overwrite(try AdapterVersion(3).bytes(), "a.lora")
        try await eventually("replaced in place") { try await store.snapshot(named: "a").value == 3 }
        #expect(store.entry("a")?.swaps == 2 && store.entry("a")?.failure == nil)
        #expect(fixture.counter("lora_adapter_swaps_total", "a") == 2)
        // A running request goes on with what it has.
        #expect(first.value == 1)
        try fixture.remove("a.lora")
        await eventually("retired") { store.entry("a") == nil }
        #expect(first.value == 1)
        #expect(fixture.counter("lora_adapter_load_failures_total", "a") == 0)
        #expect(fixture.log.count("adapter replaced") == 2)
        #expect(!fixture.log.text.contains("warning"))
    }

    @Test("the same content once more is no new version")
    func sameContent() async throws {
        let fixture = try AdapterFixture()
        try fixture.write(AdapterVersion(1), "a.lora")
        let store = try fixture.store()
        let first = try await store.snapshot(named: "a")
        try fixture.write(AdapterVersion(1), "a.lora")
        try fixture.write(AdapterVersion(1), "b.lora")
        await eventually("the later file") { store.entry("b") != nil }
        #expect(store.entry("a")?.swaps == 0)
        #expect(try await store.snapshot(named: "a") === first)
    }

    @Test("renaming a file renames the adapter")
    func rename() async throws {
        let fixture = try AdapterFixture()
        try fixture.write(AdapterVersion(1), "a.lora")
        let store = try fixture.store()
        #expect(Foundation.rename(fixture.path("a.lora"), fixture.path("b.lora")) == 0)
        await eventually("the new name alone") { store.entries.map(\.name) == ["b"] }
        #expect(try await store.snapshot(named: "b").value == 1)
    }

    /// What can be wrong with a new version.
    enum Fault: String, CaseIterable {
        case empty, text, truncated, corrupted, foreign, notFinite, misshapen, bomb, pipe, outside, huge

        /// Part of the reason that is given.
        var reason: String {
            switch self {
            case .empty: "empty"
            case .text, .truncated: "ZIP"
            case .corrupted: "damaged"
            case .foreign: "another base"
            case .notFinite: "not finite"
            case .misshapen: "does not fit"
            case .bomb: "more than"
            case .pipe: "not a regular file"
            case .outside: "leads out of"
            case .huge: "r must be from 1"
            }
        }

        func put(_ file: String, in fixture: AdapterFixture) throws {
            let good = try AdapterVersion(7).bytes()
            switch self {
            case .empty: try fixture.overwrite([], file)
            case .text: try fixture.overwrite(Array("no adapter".utf8), file)
            case .truncated: try fixture.overwrite(Array(good[..<(good.count / 2)]), file)
            case .corrupted:
                var bytes = good
                bytes[bytes.count / 3] ^= 0x55
                try fixture.overwrite(bytes, file)
            case .foreign:
                var version = AdapterVersion(7)
                version.fingerprint = String(repeating: "5", count: 64)
                try fixture.write(version, file)
            case .notFinite: try fixture.write(AdapterVersion(.infinity), file)
            case .misshapen:
                try repack(AdapterVersion(7), file, fixture) {
                    $0["r"] = .integer(3)
                } record: {
                    $0["rank"] = .integer(3)
                }
            case .bomb: try writeBomb(file, fixture)
            case .pipe:
                #expect(mkfifo(fixture.path("x"), 0o600) == 0)
                #expect(Foundation.rename(fixture.path("x"), fixture.path(file)) == 0)
            case .outside:
                let target = fixture.directory + ".outside"
                try Data(good).write(to: URL(filePath: target))
                try FileManager.default.createSymbolicLink(atPath: fixture.path("x"), withDestinationPath: target)
                #expect(Foundation.rename(fixture.path("x"), fixture.path(file)) == 0)
            case .huge:
                try repack(AdapterVersion(7), file, fixture) {
                    $0["r"] = .integer(1 << 40)
                } record: { _ in
                }
            }
        }

        private func repack(
            _ version: AdapterVersion, _ file: String, _ fixture: AdapterFixture,
            configuration: (inout [String: JSONValue]) -> Void, record: (inout [String: JSONValue]) -> Void
        ) throws {
            let archive = try ZipArchive(try version.bytes())
            let files = try archive.entries.map { entry -> (String, [UInt8]) in
                let bytes = try archive.read(entry, limit: 1 << 20).array
                guard entry.name.hasSuffix(".json"), let json = try JSONValue(parsing: bytes).objectValue else {
                    return (entry.name, bytes)
                }
                var members = Dictionary(uniqueKeysWithValues: json.elements.map { ($0.key, $0.value) })
                if entry.name == "lora.json" { record(&members) } else { configuration(&members) }
                let text = JSONValue.object(.init(uniqueKeysWithValues: members.sorted { $0.key < $1.key }))
                    .serialized()
                return (entry.name, Array(text.utf8))
            }
            try AtomicFile.write(try ZipWriter.serialize(files), to: fixture.path(file))
        }

        /// 64 MiB of zeros where an adapter of some thousand numbers is told.
        private func writeBomb(_ file: String, _ fixture: AdapterFixture) throws {
            let archive = try ZipArchive(try AdapterVersion(7).bytes())
            let files = try archive.entries.map { entry -> (String, [UInt8]) in
                entry.name.hasSuffix("safetensors")
                    ? (entry.name, [UInt8](repeating: 0, count: 64 << 20))
                    : (entry.name, try archive.read(entry, limit: 1 << 20).array)
            }
            try AtomicFile.write(try ZipWriter.serialize(files), to: fixture.path(file))
        }
    }

    @Test(
        "a bad file leaves the good version in service and is reported; a good one repairs it",
        arguments: Fault.allCases)
    func faults(_ fault: Fault) async throws {
        let fixture = try AdapterFixture()
        defer { try? FileManager.default.removeItem(atPath: fixture.directory + ".outside") }
        try fixture.write(AdapterVersion(1), "a.lora")
        let store = try fixture.store()
        _ = try await store.snapshot(named: "a")
        try fault.put("a.lora", in: fixture)
        await eventually("\(fault) is reported") { store.entry("a")?.failure != nil }
        let reason = try #require(store.entry("a")?.failure)
        #expect(reason.contains(fault.reason), "\(reason)")
        #expect(!reason.contains(fixture.directory) && !reason.contains("\n"))
        #expect(store.entry("a")?.swaps == 0)
        #expect(try await store.snapshot(named: "a").value == 1)
        #expect(fixture.counter("lora_adapter_load_failures_total", "a") >= 1)
        #expect(fixture.log.text.contains("what is in service stays"))
        // Put before the store starts, the file gives no adapter.
        let late = try fixture.store()
        if late.entry("a") == nil {
            #expect(late.rejected["a"]?.contains(fault.reason) == true)
            #expect(await late.refusal("a") == .unknown("a"))
        } else {
            let refusal = await late.refusal("a")
            guard case .unusable("a", let reason)? = refusal else {
                Issue.record("\(String(describing: refusal))")
                return
            }
            #expect(reason.contains(fault.reason) && !reason.contains(fixture.directory), "\(reason)")
        }
        try? fixture.remove("a.lora")
        try fixture.write(AdapterVersion(2), "a.lora")
        for store in [store, late] {
            await eventually("repaired") { (try? await store.snapshot(named: "a"))?.value == 2 }
            #expect(store.entry("a")?.failure == nil && store.rejected.isEmpty)
        }
    }

    @Test("a version whose file was spoilt is not unloaded to make room")
    func spoiltStays() async throws {
        let fixture = try AdapterFixture()
        for number in 1...3 { try fixture.write(AdapterVersion(Float(number)), "a\(number).lora") }
        let store = try fixture.store(maximumBytes: 2 * (try AdapterVersion(1).residentBytes()))
        _ = try await store.snapshot(named: "a1")
        try fixture.overwrite([1], "a1.lora")
        await eventually("reported") { store.entry("a1")?.failure != nil }
        _ = try await store.snapshot(named: "a2")
        _ = try await store.snapshot(named: "a3")
        #expect(try await store.snapshot(named: "a1").value == 1)
        #expect(store.entries.filter(\.isLoaded).map(\.name) == ["a1", "a3"])
    }

    @Test("a look through the directory finds what no event told")
    func overflow() async throws {
        let fixture = try AdapterFixture()
        try fixture.write(AdapterVersion(1), "a.lora")
        try fixture.write(AdapterVersion(1), "b.lora")
        let registry = try fixture.registry()
        var follower = DirectoryFollower(registry: registry, watch: nil, seen: [:], interval: .seconds(3600))
        var news = DirectoryWatch.News()
        news.isIncomplete = true
        follower.apply(news)
        #expect(registry.update { $0.slots.keys.sorted() } == ["a", "b"])
        try fixture.write(AdapterVersion(2), "a.lora")
        try fixture.remove("b.lora")
        try fixture.write(AdapterVersion(3), "c.lora")
        follower.apply(news)
        #expect(registry.update { $0.slots.keys.sorted() } == ["a", "c"])
        #expect(try registry.fetch("a").get().value == 2)
        #expect(registry.update { $0.slots["a"]?.swaps } == 1)
    }

    @Test("more events than the system keeps are reported as lost")
    func lostEvents() throws {
        let fixture = try AdapterFixture()
        for file in ["a.lora", "b.lora"] { try fixture.overwrite([1], file) }
        let limit = try String(contentsOfFile: "/proc/sys/fs/inotify/max_queued_events", encoding: .utf8)
        let count = try #require(Int(limit.trimmingCharacters(in: .whitespacesAndNewlines)))
        let watch = try DirectoryWatch(directory: fixture.directory)
        // Equal events in a row count once.
        for index in 0...(count + 8) {
            close(open(fixture.path(index % 2 == 0 ? "a.lora" : "b.lora"), O_WRONLY))
        }
        let news = watch.news()
        #expect(news.isIncomplete && news.changed == ["a.lora", "b.lora"])
        #expect(watch.news().isEmpty)
    }

    @Test("without the system's news the directory is looked through every so often")
    func unwatched() async throws {
        let fixture = try AdapterFixture()
        let registry = try fixture.registry()
        let watcher = try AdapterWatcher(registry: registry, watch: nil, seen: [:], interval: .milliseconds(20))
        defer { watcher.stop() }
        try fixture.write(AdapterVersion(1), "a.lora")
        await eventually("found") { registry.update { $0.revision(of: "a") } != nil }
        try fixture.remove("a.lora")
        await eventually("gone") { registry.update { $0.revision(of: "a") } == nil }
    }

    @Test("when the directory goes, what is loaded stays; when it is back, it is followed again")
    func lostDirectory() async throws {
        let fixture = try AdapterFixture()
        try fixture.write(AdapterVersion(1), "a.lora")
        let store = try fixture.store(interval: .milliseconds(20))
        _ = try await store.snapshot(named: "a")
        let aside = fixture.directory + ".aside"
        #expect(Foundation.rename(fixture.directory, aside) == 0)
        defer { try? FileManager.default.removeItem(atPath: aside) }
        await eventually("noticed") { fixture.log.text.contains("directory of adapters is gone") }
        #expect(try await store.snapshot(named: "a").value == 1)
        try FileManager.default.createDirectory(atPath: fixture.directory, withIntermediateDirectories: true)
        try fixture.write(AdapterVersion(2), "b.lora")
        await eventually("followed again") { store.entry("b") != nil }
        #expect(try await store.snapshot(named: "b").value == 2)
        #expect(try await store.snapshot(named: "a").value == 1)
        try fixture.write(AdapterVersion(3), "a.lora")
        try await eventually("the new directory's version") { try await store.snapshot(named: "a").value == 3 }
        #expect(fixture.log.count("directory of adapters is gone") == 1)
    }

    @Test("a directory that is deleted with all its files keeps what it published in service")
    func deletedDirectory() async throws {
        let fixture = try AdapterFixture()
        for number in 1...20 { try fixture.write(AdapterVersion(Float(number)), "a\(number).lora") }
        let store = try fixture.store(interval: .milliseconds(20))
        for number in 1...20 { _ = try await store.snapshot(named: "a\(number)") }
        try FileManager.default.removeItem(atPath: fixture.directory)
        await eventually("noticed") { fixture.log.text.contains("directory of adapters is gone") }
        #expect(store.entries.count == 20)
        #expect(try await store.snapshot(named: "a7").value == 7)
    }
}

extension AdapterFixture {
    /// A registry that nobody follows the directory for.
    func registry(maximumBytes: Int = 0) throws -> AdapterRegistry {
        AdapterRegistry(
            reader: AdapterReader(base: try TinyServingBase.shared.get(), maximumBytes: maximumBytes),
            directory: try OpenDirectory(path: directory), maximumBytes: maximumBytes,
            residency: AdapterResidency(factory: metrics), metrics: AdapterMetrics(factory: metrics),
            logger: Logger(label: "test") { _ in LogRecorder.Handler(recorder: self.log) })
    }
}
