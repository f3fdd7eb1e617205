import Foundation
import LoRAFormats
import Synchronization
import Testing

@testable import LoRAServing

@Suite("Adapter swaps")
struct AdapterSwapTests {
    @Test("10,000 swaps leave one version in memory")
    func flatMemory() async throws {
        let fixture = try AdapterFixture()
        let files = ["one.lora", "two.lora"]
        for (index, file) in files.enumerated() { try fixture.write(AdapterVersion(Float(index)), file) }
        let registry = try fixture.registry()
        try registry.load("a", path: files[0], replaces: false).get()
        let size = try AdapterVersion(1).residentBytes()
        for count in 1...10_000 {
            // A request holds the version before.
            let held = try registry.fetch("a").get()
            try registry.load("a", path: files[count % 2], replaces: true).get()
            #expect(registry.residency.bytes == 2 * size)
            withExtendedLifetime(held) {}
        }
        #expect(registry.residency.count == 1)
        #expect(registry.update { $0.slots["a"]?.swaps } == 10_000)
        #expect(registry.update { $0.loadedBytes } == size)
        #expect(fixture.counter("lora_adapter_swaps_total", "a") == 10_000)
    }

    private final class Progress: Sendable {
        let isOver = Atomic(false)
        let isWriterDone = Atomic(false)
        let taken = Atomic(0)
    }

    @Test("requests, swaps, unloading and a bound on memory at once: every snapshot is one whole version")
    func hammer() async throws {
        let fixture = try AdapterFixture()
        let names = (0..<4).map { "a\($0)" }
        for name in names { try fixture.write(AdapterVersion(1), "\(name).lora") }
        let size = try AdapterVersion(1).residentBytes()
        let store = try fixture.store(maximumBytes: 2 * size, interval: .milliseconds(5))
        let progress = Progress()
        try await withThrowingTaskGroup(of: Void.self) { group in
            for worker in 0..<6 {
                group.addTask {
                    var turn = worker
                    while !progress.isOver.load(ordering: .relaxed) {
                        turn += 1
                        do throws(AdapterStore.Failure) {
                            let snapshot = try await store.snapshot(named: names[turn % 4])
                            #expect(snapshot.value.map { $0 >= 1 } == true && snapshot.name == names[turn % 4])
                            progress.taken.add(1, ordering: .relaxed)
                        } catch {
                            // Only what another task does right now: a name taken out, or a file being written.
                            switch error {
                            case .unknown, .unusable: await Task.yield()
                            default: Issue.record("\(error)")
                            }
                        }
                        _ = store.entries
                        await Task.yield()
                    }
                }
            }
            group.addTask {
                for round in 2...120 {
                    let name = names[round % 4]
                    let version = AdapterVersion(Float(round))
                    switch round % 5 {
                    case 0: try fixture.overwrite(try version.bytes(), "\(name).lora")
                    case 1: try? store.unload(name: name)
                    case 2: try? await store.load(name: name, path: "\(name).lora", replaces: true)
                    case 3: try? await store.pin(name: name)
                    default: try fixture.write(version, "\(name).lora")
                    }
                    if round % 5 == 2 { try? store.unpin(name: name) }
                    try await Task.sleep(for: .milliseconds(2))
                }
                progress.isOver.store(true, ordering: .relaxed)
            }
            try await group.waitForAll()
        }
        #expect(progress.taken.load(ordering: .relaxed) > 0)
        for name in names {
            try? store.unpin(name: name)
            try fixture.write(AdapterVersion(1000), "\(name).lora")
        }
        for name in names {
            await eventually("the last version of \(name)") {
                (try? await store.snapshot(named: name))?.value == 1000
            }
        }
        await eventually("no version but those within the bound") { store.residentBytes <= 2 * size }
    }

    @Test("a file that is written while it is read gives one version or none")
    func noMixture() async throws {
        let fixture = try AdapterFixture()
        let versions = try (1...2).map { try AdapterVersion(Float($0)).bytes() }
        try fixture.overwrite(versions[0], "a.lora")
        let registry = try fixture.registry()
        #expect(registry.announce("a", path: "a.lora") != nil)
        let progress = Progress()
        let path = fixture.path("a.lora")
        let writer = Thread {
            var turn = 0
            while !progress.isOver.load(ordering: .relaxed) {
                turn += 1
                let descriptor = open(path, O_WRONLY)
                // Most readers come between the parts.
                for start in stride(from: 0, to: versions[turn % 2].count, by: 400) {
                    let part = versions[turn % 2][start...].prefix(400)
                    _ = part.withUnsafeBytes { pwrite(descriptor, $0.baseAddress, $0.count, off_t(start)) }
                }
                _ = ftruncate(descriptor, off_t(versions[turn % 2].count))
                close(descriptor)
                if turn % 4 == 0 { usleep(500) }
            }
            progress.isWriterDone.store(true, ordering: .relaxed)
        }
        writer.start()
        for _ in 0..<3000 {
            _ = registry.refresh("a", path: "a.lora")
            let value = try registry.fetch("a").get().value
            #expect(value == 1 || value == 2)
        }
        progress.isOver.store(true, ordering: .relaxed)
        await eventually("the writer ends") { progress.isWriterDone.load(ordering: .relaxed) }
        #expect(registry.refresh("a", path: "a.lora") != nil)
        #expect(registry.update { $0.slots["a"]?.failure == nil })
    }

    @Test("a store that goes away ends its threads and frees its adapters")
    func end() async throws {
        let fixture = try AdapterFixture()
        try fixture.write(AdapterVersion(1), "a.lora")
        weak var weakStore: AdapterStore?
        weak var weakSnapshot: AdapterSnapshot?
        do {
            let store = try fixture.store()
            weakStore = store
            weakSnapshot = try await store.snapshot(named: "a")
            #expect(weakSnapshot != nil)
        }
        await eventually("freed") { weakStore == nil && weakSnapshot == nil }
    }
}
