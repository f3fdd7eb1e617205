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
        let pass = try InferencePass(model: model, pool: pool, compute: .f32, capacity: 128, positions: 256)
        let cache = KeyValueCache(configuration: model.configuration)
        pass.run([.init(cache: cache, tokens: tokens(count), adapter: nil, wanted: .none)]) { _, _, _ in }
        pool.shutdown()
        return cache.pages
    }

    @Test("Whole pages are found again, and leave a token to read; short prompts have none")
    func find() throws {
        let cache = PrefixCache()
        let prompt = tokens(6)
        #expect(cache.acquire(root(), prompt).isEmpty)
        let part = cache.extend([], root(), prompt[..<40], pages: try pages(3))
        #expect(part.count == 2)
        let kept = cache.extend(part, root(), prompt[...], pages: try pages(6))
        #expect(kept.count == 6)
        #expect(cache.pageCount == 6)
        #expect(cache.acquire(root(), prompt).count == 5)
        #expect(cache.acquire(root(), prompt + [1]).count == 6)
        #expect(cache.acquire(root(), tokens(6, 9) + [1]).count == 5)
        #expect(cache.acquire(root(), Array(prompt[..<40])).isEmpty)
        #expect(cache.acquire(root("u"), prompt + [1]).isEmpty)
        #expect(cache.acquire(root("t", "e"), prompt + [1]).isEmpty)
        #expect(cache.usedPageCount == 6, "a page that several read counts once")
    }

    @Test("An equal page that came first stays, and its own pages serve the second")
    func twice() throws {
        let cache = PrefixCache()
        let first = cache.extend([], root(), tokens(5)[...], pages: try pages(5))
        let second = cache.extend([], root(), tokens(5)[...], pages: try pages(5))
        #expect(second.isEmpty)
        let found = cache.acquire(root(), tokens(5) + [1])
        #expect(found.count == 5)
        #expect(zip(found, first).allSatisfy { $0 === $1 })
        #expect(cache.pageCount == 5)
    }

    @Test("Pages in use stay; of the others the one unused for longest goes first, leaves before their parents")
    func eviction() throws {
        let cache = PrefixCache()
        let old = cache.extend([], root(), tokens(5)[...], pages: try pages(5))
        let new = cache.extend([], root("u"), tokens(4)[...], pages: try pages(4))
        #expect(cache.evict(9) == 0)
        cache.release(old)
        cache.release(new)
        let used = cache.acquire(root(), tokens(5) + [1])
        #expect(used.count == 5)
        #expect(cache.evict(1) == 1)
        #expect(cache.acquire(root("u"), tokens(4) + [1]).count == 3)
        cache.release(used)
        #expect(cache.evict(1) == 1)
        #expect(cache.acquire(root(), tokens(5) + [1]).count == 4)
        #expect(cache.evict(9) == 0)
        #expect(cache.pageCount == 7)
    }

    @Test("Many go at once, each before the one that it follows, also when that one was found earlier")
    func manyAtOnce() throws {
        let cache = PrefixCache()
        let start = cache.extend([], root(), tokens(5)[..<40], pages: try pages(3))
        #expect(start.count == 2)
        let other = cache.extend([], root("u"), tokens(5)[...], pages: try pages(5))
        // Time goes on between the reading of the prompt's beginning and of its rest.
        #expect(cache.acquire(root("v"), tokens(5) + [1]).isEmpty)
        let whole = cache.extend(start, root(), tokens(5)[...], pages: try pages(5))
        #expect(whole.count == 5)
        #expect(cache.usedPageCount == 10)
        cache.release(whole)
        #expect(cache.usedPageCount == 5)
        cache.release(other)
        #expect(cache.usedPageCount == 0)
        #expect(cache.evict(7) == 7)
        #expect(cache.acquire(root("u"), tokens(5) + [1]).isEmpty)
        let left = cache.acquire(root(), tokens(5) + [1])
        #expect(left.count == 3 && cache.pageCount == 3)
        cache.release(left)
        #expect(cache.evict(9) == 3)
        #expect(cache.pageCount == 0 && cache.acquire(root(), tokens(5) + [1]).isEmpty)
    }
}
