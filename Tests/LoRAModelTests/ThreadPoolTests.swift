import Synchronization
import Testing

@testable import LoRAModel

@Suite("Thread pool")
struct ThreadPoolTests {
    @Test("Ranges cut the items into contiguous parts at multiples", arguments: [1, 2, 3, 5])
    func ranges(threads: Int) {
        withPool(threads: threads) { pool in
            #expect(pool.count == threads)
            for count in [0, 1, 2, 15, 16, 17, 100, 1001] {
                for multiple in [1, 16, 64] {
                    var next = 0
                    for thread in 0..<threads {
                        let range = pool.range(of: count, multiple: multiple, thread: thread)
                        #expect(range.lowerBound == next)
                        #expect(range.lowerBound % multiple == 0 || range.isEmpty)
                        next = range.upperBound
                    }
                    #expect(next == count)
                }
            }
        }
    }

    @Test("Every item of a range is seen once, in the share it belongs to")
    func forEachRange() {
        withPool(threads: 3) { pool in
            for count in [0, 1, 7, 100] {
                let seen = Mutex([Int](repeating: 0, count: count))
                pool.forEachRange(of: count, multiple: 4) { range, thread in
                    let expected = pool.range(of: count, multiple: 4, thread: thread)
                    seen.withLock { seen in
                        for item in range { seen[item] += range == expected ? 1 : 100 }
                    }
                }
                #expect(seen.withLock { $0.allSatisfy { $0 == 1 } })
            }
        }
    }

    @Test("Every task is done once")
    func forEachTask() {
        withPool(threads: 3) { pool in
            for count in [0, 1, 2, 3, 1000] {
                let seen = Mutex([Int](repeating: 0, count: count))
                pool.forEachTask(count) { task, thread in
                    seen.withLock { $0[task] += (0..<3).contains(thread) ? 1 : 100 }
                }
                #expect(seen.withLock { $0.allSatisfy { $0 == 1 } })
            }
        }
    }

    @Test("Thousands of regions, short and long, do every share once and wait for each", arguments: [2, 5])
    func regions(threads: Int) {
        withPool(threads: threads) { pool in
            // Written in each share at its own place and read by the caller after the region, without any lock.
            let sums = UnsafeMutablePointer<Int>.allocate(capacity: threads * 64)
            sums.initialize(repeating: 0, count: threads * 64)
            defer { sums.deallocate() }
            var wrong = 0
            for region in 1...20_000 / threads {
                pool.run { share in
                    // Now and then a share is late, so that others spin or sleep.
                    if region % 1000 == share { for _ in 0..<100_000 { sums[64 * share + 1] &+= 1 } }
                    sums[64 * share] += region
                }
                if (0..<threads).contains(where: { sums[64 * $0] != region * (region + 1) / 2 }) { wrong += 1 }
            }
            #expect(wrong == 0)
        }
    }

    @Test("Shares whose threads do not come are the caller's")
    func absentThreads() {
        let pool = ThreadPool(count: 4)
        pool.shutdown()
        for _ in 0..<3 {
            // Without a lock: it is one thread that counts.
            var seen = [0, 0, 0, 0]
            pool.run { seen[$0] += 1 }
            #expect(seen == [1, 1, 1, 1])
            var tasks = 0
            pool.forEachTask(10) { task, _ in tasks += task }
            #expect(tasks == 45)
        }
    }

    @Test("A pool without work sleeps and wakes")
    func sleep() async throws {
        let pool = ThreadPool(count: 2)
        for _ in 0..<3 {
            try await Task.sleep(for: .milliseconds(20))
            let count = Mutex(0)
            pool.run { _ in count.withLock { $0 += 1 } }
            #expect(count.withLock { $0 } == 2)
        }
        pool.shutdown()
    }

    @Test("Pools start and end many times")
    func lifetimes() {
        for index in 0..<50 {
            withPool(threads: 1 + index % 4) { pool in
                let count = Mutex(0)
                pool.run { _ in count.withLock { $0 += 1 } }
                #expect(count.withLock { $0 } == pool.count)
            }
        }
    }
}

@Suite("Memory of a run")
struct ArenaTests {
    @Test("Buffers are zero, aligned, apart and counted")
    func arena() throws {
        let sizes = [1, 7, 16, 0, 33, 1000]
        let bytes = sizes.reduce(0) { $0 + Arena.size(of: Float.self, count: $1) }
        let arena = try Arena(capacity: bytes)
        var previous: UInt = 0
        for size in sizes {
            let buffer = arena.allocate(size, of: Float.self)
            let address = UInt(bitPattern: buffer)
            #expect(address % 64 == 0)
            #expect(address >= previous)
            #expect((0..<size).allSatisfy { buffer[$0] == 0 })
            (buffer).update(repeating: 1, count: size)
            previous = address + UInt(size * 4)
        }
        #expect(arena.used == bytes)
        #expect(Arena.size(of: UInt16.self, count: 33) == 128)
    }

    @Test("Memory that the system has not is an error", arguments: [Int.max, 1 << 62])
    func tooMuch(capacity: Int) {
        let text = message { _ = try Arena(capacity: capacity) }
        #expect(text.contains("cannot reserve \(capacity) bytes"))
    }

    @Test("f32 slots are one memory for kernels and products; bf16 slots keep rounded values")
    func buffers() throws {
        for compute in Compute.allCases {
            let (rows, width, slots) = (5, 3, 2)
            let size = ActivationBuffer.size(compute: compute, rows: rows, width: width, slots: slots)
            let arena = try Arena(capacity: size)
            let buffer = ActivationBuffer(arena: arena, compute: compute, rows: rows, width: width, slots: slots)
            #expect(arena.used == size)
            for slot in 0..<slots {
                for index in 0..<rows * width { buffer.values(slot)[index] = 1 + Float(slot) + Float(index) / 1000 }
                buffer.seal(slot, rows: 1..<4)
            }
            for slot in 0..<slots {
                buffer.open(slot, rows: 1..<4)
                for index in width..<4 * width {
                    let exact = 1 + Float(slot) + Float(index) / 1000
                    #expect(abs(buffer.values(slot)[index] - exact) <= (compute == .f32 ? 0 : exact / 256))
                    let operand = buffer.operand(slot)
                    switch compute {
                    case .f32: #expect(operand.assumingMemoryBound(to: Float.self)[index] == exact)
                    case .bf16:
                        let bits = operand.assumingMemoryBound(to: UInt16.self)[index]
                        #expect(Float(bitPattern: UInt32(bits) << 16) == buffer.values(slot)[index])
                    }
                }
            }
            withExtendedLifetime(arena) {}
        }
    }
}
