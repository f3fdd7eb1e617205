import CKernels
import COneDNN
import COpenBLAS
import Foundation
import Synchronization

/// The threads that do all arithmetic of a run. The caller is thread 0; the others wait for work, spinning briefly
/// before they sleep, because a step opens many short parallel regions.
///
/// A region has a share for each thread, which is its own to begin. Who has done its share takes those that nobody began,
/// so that a region never waits for a thread that has no core: beside other processes one may get none for milliseconds.
/// What a share computes does not depend on who takes it.
///
/// oneDNN (where it multiplies) and OpenBLAS are told to stay single-threaded in each of them: the cores have one master.
// Sendable by proof: `job` is written only by the caller of `run`, before it raises `generation` (release), and read by
// those who claimed a share of that generation (acquire); `run` returns only after every share was finished (release), and
// a share of a generation can be claimed once.
public final class ThreadPool: @unchecked Sendable {
    public let count: Int
    private let generation = Atomic<Int>(0)
    /// What became of each share, `shareStride` apart: 2g - 1 when it was claimed in generation g, 2g when it is done.
    private let shares: UnsafeMutablePointer<Atomic<Int>>
    private let sleepers = Atomic<Int>(0)
    private let stopping = Atomic<Bool>(false)
    private let nextTask = Atomic<Int>(0)
    private var job = lora_region()
    private let condition = NSCondition()
    private var threads: [pthread_t] = []

    /// Rows of a chunk at most.
    static let rowChunk = 128

    /// How often a waiting thread looks before it sleeps: some tenths of a millisecond.
    private static let spins = 20_000
    /// Atomics between those of two shares: a pair of cache lines, so that threads do not write the same one.
    private static let shareStride = 16

    /// - Parameter count: threads including the caller; nil for all cores.
    public init(count: Int? = nil) {
        self.count = max(1, count ?? ProcessInfo.processInfo.activeProcessorCount)
        shares = .allocate(capacity: self.count * Self.shareStride)
        for share in 0..<self.count { (shares + share * Self.shareStride).initialize(to: Atomic(0)) }
        openblas_set_num_threads(1)
        for index in 1..<max(self.count, 1) { start(index) }
    }

    deinit {
        for share in 0..<count { (shares + share * Self.shareStride).deinitialize(count: 1) }
        shares.deallocate()
    }

    /// Ends the workers. What runs on the pool afterwards is the caller's alone.
    public func shutdown() {
        stopping.store(true, ordering: .sequentiallyConsistent)
        wakeSleepers()
        for thread in threads { pthread_join(thread, nil) }
        threads = []
    }

    /// Runs `body(share)` once for each share, each by one thread, and returns when all are done.
    public func run(_ body: (_ share: Int) -> Void) {
        guard count > 1 else { return body(0) }
        beginRegion(body, &job)
        let current = generation.add(1, ordering: .sequentiallyConsistent).newValue
        if sleepers.load(ordering: .sequentiallyConsistent) > 0 { wakeSleepers() }
        takeShares(of: current, from: 0)
        for share in 0..<count {
            var spins = 0
            while shares[share * Self.shareStride].load(ordering: .acquiring) != 2 * current {
                spins += 1
                if spins > Self.spins { sched_yield() } else { lora_pause() }
            }
        }
    }

    /// Runs the shares of a region that nobody began, a thread's own first.
    private func takeShares(of current: Int, from own: Int) {
        for offset in 0..<count {
            let share = own + offset < count ? own + offset : own + offset - count
            let state = shares + share * Self.shareStride
            guard state.pointee.load(ordering: .relaxed) == 2 * current - 2 else { continue }
            let (isMine, _) = state.pointee.compareExchange(
                expected: 2 * current - 2, desired: 2 * current - 1, ordering: .acquiring)
            guard isMine else { continue }
            lora_region_call(job, share)
            state.pointee.store(2 * current, ordering: .releasing)
        }
    }

    /// Cuts `count` items into one contiguous range per thread, at multiples of `multiple`, and runs `body` on each
    /// that is not empty.
    public func forEachRange(of count: Int, multiple: Int = 1, _ body: (_ range: Range<Int>, _ thread: Int) -> Void) {
        run { thread in
            let range = self.range(of: count, multiple: multiple, thread: thread)
            if !range.isEmpty { body(range, thread) }
        }
    }

    /// The part of `count` items that `forEachRange` gives to `thread`.
    func range(of count: Int, multiple: Int = 1, thread: Int) -> Range<Int> {
        let blocks = (count + multiple - 1) / multiple
        let lower = min(count, blocks * thread / self.count * multiple)
        let upper = min(count, blocks * (thread + 1) / self.count * multiple)
        return lower..<upper
    }

    /// Runs `body(task)` for each of `count` independent tasks, in any order, on whichever thread is free.
    public func forEachTask(_ count: Int, _ body: (_ task: Int, _ thread: Int) -> Void) {
        nextTask.store(0, ordering: .relaxed)
        run { thread in
            while true {
                let task = nextTask.add(1, ordering: .relaxed).oldValue
                if task >= count { return }
                body(task, thread)
            }
        }
    }

    /// The same with the threads of `pool`, or the calling one alone.
    static func forEachTask(_ count: Int, by pool: ThreadPool?, _ body: (_ task: Int) -> Void) {
        if let pool { pool.forEachTask(count) { task, _ in body(task) } } else { (0..<count).forEach(body) }
    }

    /// Shares T rows between the threads, which take theirs in chunks of about `rowChunk`: few enough that what a chunk
    /// passes through stays in a core's cache, enough to pay for reading the weights.
    func forEachRowChunk(_ T: Int, _ body: (_ rows: Range<Int>, _ thread: Int) -> Void) {
        forEachRange(of: T, multiple: MatrixProduct.rowMultiple) { range, thread in
            let chunks = (range.count + Self.rowChunk - 1) / Self.rowChunk
            let step = MatrixProduct.paddedRows((range.count + chunks - 1) / chunks)
            for lower in stride(from: range.lowerBound, to: range.upperBound, by: step) {
                body(lower..<min(lower + step, range.upperBound), thread)
            }
        }
    }

    private func start(_ index: Int) {
        let context = Unmanaged.passRetained(WorkerContext(pool: self, index: index)).toOpaque()
        var thread = pthread_t()
        let status = pthread_create(
            &thread, nil,
            { context in
                guard let context else { return nil }
                let worker = Unmanaged<WorkerContext>.fromOpaque(context).takeRetainedValue()
                // Said again by whoever multiplies with oneDNN; OpenMP takes memory for it the first time, before any step.
                omp_set_num_threads(1)
                worker.pool.work(worker.index)
                return nil
            }, context)
        precondition(status == 0, "pthread_create failed with \(status)")
        threads.append(thread)
    }

    private func work(_ index: Int) {
        var seen = 0
        while let current = awaitGeneration(after: seen) {
            takeShares(of: current, from: index)
            seen = current
        }
    }

    /// nil when the pool ends.
    private func awaitGeneration(after seen: Int) -> Int? {
        for _ in 0..<Self.spins {
            let current = generation.load(ordering: .acquiring)
            if current != seen { return current }
            lora_pause()
        }
        condition.lock()
        defer { condition.unlock() }
        sleepers.add(1, ordering: .sequentiallyConsistent)
        defer { sleepers.subtract(1, ordering: .sequentiallyConsistent) }
        while !stopping.load(ordering: .sequentiallyConsistent) {
            let current = generation.load(ordering: .sequentiallyConsistent)
            if current != seen { return current }
            condition.wait()
        }
        return nil
    }

    private func wakeSleepers() {
        condition.lock()
        condition.broadcast()
        condition.unlock()
    }
}

/// Notes a closure in `region` for as long as the caller keeps it alive.
@_silgen_name("lora_region_begin")
private func beginRegion(_ body: (_ thread: Int) -> Void, _ region: UnsafeMutablePointer<lora_region>)

private final class WorkerContext {
    let pool: ThreadPool
    let index: Int

    init(pool: ThreadPool, index: Int) {
        self.pool = pool
        self.index = index
    }
}
