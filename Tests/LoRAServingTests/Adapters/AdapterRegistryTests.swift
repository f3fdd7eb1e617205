import Foundation
import LoRAFormats
import Testing

@testable import LoRAServing

@Suite("Adapter registry")
struct AdapterRegistryTests {
    @Test("an adapter without a record of its base is taken when it fits")
    func unknownBase() throws {
        let fixture = try AdapterFixture()
        var version = AdapterVersion(3)
        version.fingerprint = nil
        try fixture.write(version, "a.lora")
        let registry = try fixture.registry()
        #expect(registry.announce("a", path: "a.lora") != nil)
        #expect(try registry.fetch("a").get().value == 3)
    }

    @Test("a file that vanished before it was wanted is reported once, and taken when it is back")
    func vanished() throws {
        let fixture = try AdapterFixture()
        try fixture.write(AdapterVersion(1), "a.lora")
        let registry = try fixture.registry()
        #expect(registry.announce("a", path: "a.lora") != nil)
        try fixture.remove("a.lora")
        for _ in 0..<3 {
            #expect(throws: AdapterStore.Failure.unusable(name: "a", reason: "its file is gone")) {
                try registry.fetch("a").get()
            }
        }
        #expect(fixture.counter("lora_adapter_load_failures_total", "a") == 1)
        #expect(fixture.log.count("cannot be loaded") == 1)
        try fixture.write(AdapterVersion(2), "a.lora")
        #expect(try registry.fetch("a").get().value == 2)
        #expect(registry.update { $0.slots["a"]?.failure == nil && $0.slots["a"]?.swaps == 1 })
    }

    @Test("a file that vanishes while the directory is read is no adapter")
    func vanishing() throws {
        let fixture = try AdapterFixture()
        let registry = try fixture.registry()
        #expect(registry.announce("a", path: "a.lora") == nil)
        #expect(registry.refresh("a", path: "a.lora") == nil)
        #expect(registry.update { $0.slots.isEmpty && $0.rejected.isEmpty })
        #expect(throws: AdapterStore.Failure.unknown("a")) { try registry.fetch("a").get() }
    }

    @Test("a spoilt file is read once, not for every request")
    func spoilt() throws {
        let fixture = try AdapterFixture()
        var bytes = try AdapterVersion(1).bytes()
        let entry = try #require(ZipArchive(bytes).entry(named: "adapter_model.safetensors"))
        // Past the local header, in the middle of what only loading looks at.
        let name = try #require(bytes.firstRange(of: Array(entry.name.utf8)))
        bytes[name.upperBound + 60] ^= 0xFF
        try fixture.overwrite(bytes, "a.lora")
        let registry = try fixture.registry()
        #expect(registry.announce("a", path: "a.lora") != nil)
        for _ in 0..<5 {
            guard case .failure(.unusable("a", let reason)) = registry.fetch("a") else {
                Issue.record("a spoilt file is loaded")
                return
            }
            #expect(reason.contains("damaged"))
        }
        #expect(fixture.counter("lora_adapter_load_failures_total", "a") == 1)
        #expect(registry.residency.count == 0)
    }

    @Test("a version that another took the place of while it was read has not run out of room")
    func outdated() throws {
        let fixture = try AdapterFixture()
        try fixture.write(AdapterVersion(1), "a.lora")
        let size = try AdapterVersion(1).residentBytes()
        let registry = try fixture.registry(maximumBytes: size)
        #expect(registry.announce("a", path: "a.lora") != nil)
        let late = try registry.fetch("a").get()
        #expect(registry.update { $0.keep(late, for: "a", room: .made) } == .kept)
        try fixture.write(AdapterVersion(2), "a.lora")
        #expect(registry.refresh("a", path: "a.lora") != nil)
        #expect(registry.update { $0.keep(late, for: "a", room: .made) } == .outdated)
        #expect(registry.update { $0.retire("a") })
        #expect(registry.update { $0.keep(late, for: "a", room: .made) } == .outdated)
    }

    @Test("of two readers the one that began before another version was published is told so")
    func overtaken() throws {
        let fixture = try AdapterFixture()
        try fixture.write(AdapterVersion(1), "a.lora")
        let registry = try fixture.registry()
        #expect(registry.announce("a", path: "a.lora") != nil)
        let before = registry.update { $0.revision(of: "a") }
        try fixture.write(AdapterVersion(2), "a.lora")
        #expect(registry.refresh("a", path: "a.lora") != nil)
        let late = try registry.reader.describe("a.lora", in: registry.directory)
        for revision in [before, nil] {
            let outcome = registry.update {
                $0.publish("a", path: "a.lora", late, nil, revision: revision, time: 0)
            }
            guard case .overtaken = outcome else {
                Issue.record("\(outcome)")
                return
            }
        }
        #expect(try registry.fetch("a").get().value == 2)
        #expect(registry.update { $0.retire("a") })
        let outcome = registry.update { $0.publish("a", path: "a.lora", late, nil, revision: before, time: 0) }
        guard case .overtaken = outcome else {
            Issue.record("\(outcome)")
            return
        }
    }
}
