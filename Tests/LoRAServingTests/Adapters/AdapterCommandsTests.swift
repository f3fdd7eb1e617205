import Foundation
import LoRAFormats
import Testing

@testable import LoRAServing

@Suite("Adapters at run time")
struct AdapterCommandsTests {
    @Test("load, replace and unload a name")
    func load() async throws {
        let fixture = try AdapterFixture()
        let store = try fixture.store()
        try FileManager.default.createDirectory(atPath: fixture.path("sub"), withIntermediateDirectories: true)
        try fixture.write(AdapterVersion(1), "sub/one.lora")
        try fixture.write(AdapterVersion(2), "sub/two.lora")
        try await store.load(name: "x", path: "sub/one.lora", replaces: false)
        #expect(store.entry("x")?.path == "sub/one.lora" && store.entry("x")?.isLoaded == true)
        let first = try await store.snapshot(named: "x")
        let again = await failure { () throws(AdapterStore.Failure) in
            try await store.load(name: "x", path: "sub/two.lora", replaces: false)
        }
        #expect(again == .alreadyLoaded("x"))
        try await store.load(name: "x", path: "sub/two.lora", replaces: true)
        #expect(try await store.snapshot(named: "x").value == 2)
        #expect(store.entry("x")?.swaps == 1 && first.value == 1)
        try store.unload(name: "x")
        #expect(store.entries.isEmpty)
        #expect(await store.refusal("x") == .unknown("x"))
        #expect(await failure { () throws(AdapterStore.Failure) in try store.unload(name: "x") } == .unknown("x"))
    }

    @Test("what is unloaded stays so until it is loaded again or its file changes")
    func unload() async throws {
        let fixture = try AdapterFixture()
        try fixture.write(AdapterVersion(1), "a.lora")
        let store = try fixture.store(interval: .milliseconds(10))
        try store.unload(name: "a")
        try fixture.write(AdapterVersion(1), "b.lora")
        await eventually("another file is seen") { store.entry("b") != nil }
        store.watcher.rescan()
        // When it has seen the second of these, it has looked through the directory.
        for name in ["c", "d"] {
            try fixture.write(AdapterVersion(1), "\(name).lora")
            await eventually("\(name) is seen") { store.entry(name) != nil }
        }
        #expect(store.entry("a") == nil)
        try await store.load(name: "a", path: "a.lora", replaces: false)
        #expect(try await store.snapshot(named: "a").value == 1)
        try store.unload(name: "a")
        try fixture.write(AdapterVersion(2), "a.lora")
        await eventually("its file changed") { store.entry("a") != nil }
        #expect(try await store.snapshot(named: "a").value == 2)
    }

    @Test(
        "paths that leave the directory are refused",
        arguments: [
            "", "/etc/passwd", "../secret.lora", "sub/../../secret.lora", "sub/..", "..", "a\0.lora", "link.lora",
            "dirlink/secret.lora", "sub//x.lora", "a.lora/", "absolute.lora", "loop.lora", "/proc/self/environ",
            String(repeating: "a/", count: 4000) + "x",
        ])
    func attacks(_ path: String) async throws {
        let fixture = try AdapterFixture()
        let outside = fixture.directory + ".secrets"
        try FileManager.default.createDirectory(atPath: outside, withIntermediateDirectories: true)
        defer { try? FileManager.default.removeItem(atPath: outside) }
        try Data(try AdapterVersion(1).bytes()).write(to: URL(filePath: outside + "/secret.lora"))
        try fixture.write(AdapterVersion(1), "a.lora")
        try FileManager.default.createDirectory(atPath: fixture.path("sub"), withIntermediateDirectories: true)
        let name = URL(filePath: outside).lastPathComponent
        for (link, target) in [
            ("link.lora", "../\(name)/secret.lora"), ("dirlink", outside), ("absolute.lora", fixture.path("a.lora")),
            ("loop.lora", "loop.lora"),
        ] {
            try FileManager.default.createSymbolicLink(atPath: fixture.path(link), withDestinationPath: target)
        }
        let store = try fixture.store()
        #expect(store.entries.map(\.name) == ["a"])
        let refusal = await failure { () throws(AdapterStore.Failure) in
            try await store.load(name: "x", path: path, replaces: false)
        }
        #expect(refusal == .badPath(path))
        #expect(store.entry("x") == nil)
    }

    @Test("files that are none and names that are none are refused")
    func refusals() async throws {
        let fixture = try AdapterFixture()
        let store = try fixture.store()
        try fixture.write(AdapterVersion(1), "good.lora")
        try fixture.overwrite([1, 2, 3], "bad.lora")
        #expect(mkfifo(fixture.path("pipe.lora"), 0o600) == 0)
        let load = { (name: String, path: String) in
            await failure { () throws(AdapterStore.Failure) in
                try await store.load(name: name, path: path, replaces: true)
            }
        }
        #expect(await load("x", "none.lora") == .unknown("none.lora"))
        #expect(await load("x", "good.lora/more") == .unknown("good.lora/more"))
        for path in ["bad.lora", "pipe.lora", "."] {
            guard case .unusable("x", let reason)? = await load("x", path) else {
                Issue.record("\(path) is loaded")
                continue
            }
            #expect(!reason.contains(fixture.directory), "\(reason)")
        }
        for name in ["", "a/b", "..", ".x", "a\n", "a\u{85}", String(repeating: "n", count: 300)] {
            guard case .unusable(name, _)? = await load(name, "good.lora") else {
                Issue.record("\(name.debugDescription) is loaded")
                continue
            }
        }
        #expect(store.entry("x") == nil)
    }

    @Test("links that stay inside the directory are followed")
    func innerLinks() async throws {
        let fixture = try AdapterFixture()
        try FileManager.default.createDirectory(atPath: fixture.path("..data-1"), withIntermediateDirectories: true)
        try fixture.write(AdapterVersion(1), "..data-1/a.lora")
        try FileManager.default.createSymbolicLink(atPath: fixture.path("..data"), withDestinationPath: "..data-1")
        try FileManager.default.createSymbolicLink(
            atPath: fixture.path("a.lora"), withDestinationPath: "..data/a.lora")
        #expect(try await fixture.store().snapshot(named: "a").value == 1)
    }
}
