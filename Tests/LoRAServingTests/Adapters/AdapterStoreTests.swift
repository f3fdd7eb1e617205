import Foundation
import LoRAFormats
import LoRAModel
import Testing

@testable import LoRAServing

@Suite("Adapter store")
struct AdapterStoreTests {
    @Test("every adapter of the directory is published, and loaded when it is wanted")
    func start() async throws {
        let fixture = try AdapterFixture()
        try fixture.write(AdapterVersion(1), "a.lora")
        try fixture.write(AdapterVersion(2), "Grüße 你好.lora")
        for other in [".hidden.lora", "b.lora.tmp", ".lora-77.tmp", "notes.txt", ".lora", "c\u{7}.lora"] {
            try fixture.write(AdapterVersion(3), other)
        }
        try FileManager.default.createDirectory(atPath: fixture.path("folder"), withIntermediateDirectories: true)
        let store = try fixture.store()
        #expect(store.entries.map(\.name) == ["Grüße 你好", "a"])
        let entry = try #require(store.entry("a"))
        #expect(
            !entry.isLoaded && entry.rank == 2 && entry.swaps == 0 && entry.failure == nil && entry.path == "a.lora")
        #expect(try entry.digest == AdapterVersion(1).file().contentDigest)
        #expect(entry.fileBytes == (try AdapterVersion(1).bytes().count))
        #expect(store.residentBytes == 0)
        let snapshot = try await store.snapshot(named: "a")
        #expect(snapshot.value == 1 && snapshot.name == "a" && snapshot.digest == entry.digest)
        #expect(try await store.snapshot(named: "Grüße 你好").value == 2)
        #expect(store.entry("a")?.isLoaded == true)
        #expect(try store.residentBytes == 2 * AdapterVersion(1).residentBytes())
        #expect(try await store.snapshot(named: "a") === snapshot)
        #expect(await store.refusal("b") == .unknown("b"))
        #expect(fixture.loads == 2)
    }

    @Test("magnitudes are resolved when an adapter is loaded")
    func magnitudes() async throws {
        let fixture = try AdapterFixture()
        var version = AdapterVersion(0.5)
        version.decomposesWeights = true
        try fixture.write(version, "dora.lora")
        let snapshot = try await fixture.store().snapshot(named: "dora")
        #expect(snapshot.parameters.layout.rowFactors == .gains)
    }

    @Test("many who want one cold adapter cause one reading of it")
    func singleFlight() async throws {
        let fixture = try AdapterFixture()
        try fixture.write(AdapterVersion(1), "a.lora")
        let store = try fixture.store()
        let snapshots = await withTaskGroup(of: AdapterSnapshot?.self) { group in
            for _ in 0..<200 { group.addTask { try? await store.snapshot(named: "a") } }
            return await group.reduce(into: []) { $0.append($1) }
        }
        let first = try #require(snapshots[0])
        #expect(snapshots.count == 200 && snapshots.allSatisfy { $0 === first })
        #expect(fixture.loads == 1)
    }

    @Test("what was used longest ago leaves memory, and comes back from its file")
    func leastRecentlyUsed() async throws {
        let fixture = try AdapterFixture()
        for number in 1...4 { try fixture.write(AdapterVersion(Float(number)), "a\(number).lora") }
        let size = try AdapterVersion(1).residentBytes()
        let store = try fixture.store(maximumBytes: 2 * size + size / 2)
        let loaded = { store.entries.filter(\.isLoaded).map(\.name) }
        _ = try await store.snapshot(named: "a1")
        _ = try await store.snapshot(named: "a2")
        _ = try await store.snapshot(named: "a1")
        _ = try await store.snapshot(named: "a3")
        #expect(loaded() == ["a1", "a3"])
        #expect(store.residentBytes == 2 * size)
        let held = try await store.snapshot(named: "a1")
        _ = try await store.snapshot(named: "a2")
        _ = try await store.snapshot(named: "a4")
        #expect(loaded() == ["a2", "a4"])
        // A request still has it.
        #expect(store.residentBytes == 3 * size)
        #expect(fixture.residentBytes == Double(3 * size))
        #expect(try await store.snapshot(named: "a1") === held)
        #expect(store.residentBytes == 2 * size + (held.value == 1 ? 0 : 1))
    }

    @Test("pinned adapters stay, and what finds no room beside them is refused")
    func pinning() async throws {
        let fixture = try AdapterFixture()
        for number in 1...3 { try fixture.write(AdapterVersion(Float(number)), "a\(number).lora") }
        let size = try AdapterVersion(1).residentBytes()
        let store = try fixture.store(maximumBytes: size)
        try await store.pin(name: "a1")
        #expect(store.entry("a1")?.isPinned == true && store.entry("a1")?.isLoaded == true)
        let refusal = await store.refusal("a2")
        guard case .unusable("a2", let reason)? = refusal else {
            Issue.record("\(String(describing: refusal))")
            return
        }
        #expect(reason.contains("\(size)"))
        // A version of its own takes its place.
        try fixture.write(AdapterVersion(9), "a1.lora")
        try await eventually("the pinned adapter's new version") {
            try await store.snapshot(named: "a1").value == 9
        }
        #expect(store.entry("a1")?.isPinned == true)
        try store.unpin(name: "a1")
        #expect(try await store.snapshot(named: "a2").value == 2)
        #expect(store.entry("a1")?.isLoaded == false)
        #expect(await failure { () throws(AdapterStore.Failure) in try await store.pin(name: "x") } == .unknown("x"))
        #expect(await failure { () throws(AdapterStore.Failure) in try store.unpin(name: "x") } == .unknown("x"))
    }

    @Test("an adapter over the bound is refused by what it takes")
    func tooLarge() async throws {
        let fixture = try AdapterFixture()
        try fixture.write(AdapterVersion(1), "small.lora")
        var large = AdapterVersion(2)
        large.rank = 32
        try fixture.write(large, "large.lora")
        let size = try AdapterVersion(1).residentBytes()
        let store = try fixture.store(maximumBytes: size)
        #expect(store.entries.map(\.name) == ["small"])
        #expect(store.rejected["large"]?.contains("\(try large.residentBytes() / 2) bytes of memory") == true)
        #expect(try await store.snapshot(named: "small").value == 1)
    }

    @Test("merging into the base under a running store changes nothing")
    func mergeInPlace() async throws {
        let fixture = try AdapterFixture()
        let path = fixture.path("base.bin")
        try TinyServingBase(seed: 1).write(to: path)
        let base = try BaseModel(path: path)
        try fixture.write(AdapterVersion(1), "a.lora")
        let before = try fixture.store(base: base)
        // As `lora merge` does: another base by rename, whose fingerprint is kept beside it.
        try TinyServingBase(seed: 2).write(to: path + ".new")
        #expect(rename(path + ".new", path) == 0)
        let merged = try BaseModel(path: path)
        let fingerprint = BaseFingerprint.fingerprint(of: merged.file)
        var other = AdapterVersion(5)
        other.fingerprint = fingerprint
        try fixture.write(other, "merged.lora")
        try fixture.write(AdapterVersion(2), "late.lora")
        // The store that runs, and one that starts on the map of the earlier base.
        let after = try fixture.store(base: base)
        for store in [before, after] {
            await eventually("both files were seen") { store.rejected["merged"] != nil && store.entry("late") != nil }
            #expect(try await store.snapshot(named: "a").value == 1)
            #expect(try await store.snapshot(named: "late").value == 2)
            #expect(store.entry("merged") == nil)
        }
        #expect(BaseFingerprint.fingerprint(of: base.file) != fingerprint)
        #expect(BaseFingerprint.fingerprint(of: merged.file) == fingerprint)
    }
}
