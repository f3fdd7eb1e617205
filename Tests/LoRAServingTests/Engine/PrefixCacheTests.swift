import LoRAModel
import Testing

@testable import LoRAServing

@Suite("Prefix cache")
struct PrefixCacheTests {
    let model: BaseModel
    let length = KeyValueCache.pageLength

    init() throws { model = try TestBase.tiny().model }

    func root(_ tenant: String = "t", _ digest: String = "d") -> PrefixCache.Root {
        .init(tenant: tenant, digest: digest)
    }

    func tokens(_ pages: Int, _ last: Int32 = 0) -> [Int32] {
        (0..<Int32(pages * length - 1)).map { $0 } + [last]
    }

    /// Pages as a sequence that read `count` of them has them.
    func pages(_ count: Int) throws -> [KeyValuePage] {
        let pool = ThreadPool(count: 1)
        let pass = try InferencePass(model: model, pool: pool, compute: .f32, capacity: 64, positions: 256)
        let cache = KeyValueCache(configuration: model.configuration)
        pass.run([.init(cache: cache, tokens: tokens(count), adapter: nil, wanted: .none)]) { _, _, _ in }
        pool.shutdown()
        return cache.pages
    }

    @Test("Whole pages are found again, and leave a token to read")
    func find() throws {
        let cache = PrefixCache()
        let prompt = tokens(3)
        #expect(cache.acquire(root(), prompt).isEmpty)
        let kept = cache.extend([], root(), prompt, pages: try pages(3))
        #expect(kept.count == 3)
        #expect(cache.pageCount == 3)
        #expect(cache.acquire(root(), prompt).count == 2)
        #expect(cache.acquire(root(), prompt + [1]).count == 3)
        #expect(cache.acquire(root(), tokens(3, 9) + [1]).count == 2)
        #expect(cache.acquire(root("u"), prompt + [1]).isEmpty)
        #expect(cache.acquire(root("t", "e"), prompt + [1]).isEmpty)
    }

    @Test("An equal page that came first stays, and its own pages serve the second")
    func twice() throws {
        let cache = PrefixCache()
        let first = cache.extend([], root(), tokens(2), pages: try pages(2))
        let second = cache.extend([], root(), tokens(2), pages: try pages(2))
        #expect(second.isEmpty)
        let found = cache.acquire(root(), tokens(2) + [1])
        #expect(zip(found, first).allSatisfy { $0 === $1 })
        #expect(cache.pageCount == 2)
    }

    @Test("Pages in use stay; of the others the one unused for longest goes first, leaves before their parents")
    func eviction() throws {
        let cache = PrefixCache()
        let old = cache.extend([], root(), tokens(2), pages: try pages(2))
        let new = cache.extend([], root("u"), tokens(1), pages: try pages(1))
        #expect(cache.evict(9) == 0)
        cache.release(old)
        cache.release(new)
        let used = cache.acquire(root(), tokens(2) + [1])
        #expect(cache.evict(1) == 1)
        #expect(cache.acquire(root("u"), tokens(1) + [1]).isEmpty)
        cache.release(used)
        #expect(cache.evict(1) == 1)
        #expect(cache.acquire(root(), tokens(2) + [1]).count == 1)
        #expect(cache.evict(9) == 0)
        #expect(cache.pageCount == 1)
    }
}
