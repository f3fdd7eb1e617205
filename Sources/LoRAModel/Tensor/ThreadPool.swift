import CKernels
import COneDNN
import COpenBLAS
import Foundation
import Synchronization

/// The threads that do all arithmetic of a run. The caller is thread 0; the others wait for work, spinning briefly
/// before they sleep, because a step opens many short parallel regions.
///
/// oneDNN and OpenBLAS are told to stay single-threaded in each of them: the cores have one master.
// Sendable by proof: `job` is written only by the caller of `run` before `generation` is raised (release) and read by
// workers after they saw the new generation (acquire); `run` returns only after `remaining` fell to zero.
public final class ThreadPool: @unchecked Sendable {
    public let count: Int
    private let generation = Atomic<Int>(0)
    private let remaining = Atomic<Int>(0)
    private let sleepers = Atomic<Int>(0)
    private let stopping = Atomic<Bool>(false)
    private let nextTask = Atomic<Int>(0)
    private var job = lora_region()
    private let condition = NSCondition()
    private var threads: [pthread_t] = []

    /// Rows of a chunk at most. OpenBLAS arranges a matrix anew for every chunk, which pays for larger ones.
    static let rowChunk = MatrixProduct.prefersOneDNN ? 128 : 256

    /// How often a waiting thread looks before it sleeps: some tens of microseconds.
    private static let spins = 20_000

    /// - Parameter count: threads including the caller; nil for all cores.
    public init(count: Int? = nil) {
        self.count = max(1, count ?? ProcessInfo.processInfo.activeProcessorCount)
        openblas_set_num_threads(1)
        omp_set_num_threads(1)
        for index in 1..<max(self.count, 1) { start(index) }
    }

    /// Ends the workers. Nothing may run on the pool afterwards.
    public func shutdown() {
        stopping.store(true, ordering: .releasing)
        generation.add(1, ordering: .acquiringAndReleasing)
        wakeSleepers()
        for thread in threads { pthread_join(thread, nil) }
        threads = []
    }

    /// Runs `body(thread)` once on every thread and returns when all are done.
    public func run(_ body: (_ thread: Int) -> Void) {
        guard count > 1 else { return body(0) }
        beginRegion(body, &job)
        remaining.store(count - 1, ordering: .relaxed)
        generation.add(1, ordering: .sequentiallyConsistent)
        if sleepers.load(ordering: .sequentiallyConsistent) > 0 { wakeSleepers() }
        body(0)
        var spins = 0
        while remaining.load(ordering: .acquiring) > 0 {
            spins += 1
            if spins > Self.spins { sched_yield() } else { lora_pause() }
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
                omp_set_num_threads(1)
                worker.pool.work(worker.index)
                return nil
            }, context)
        precondition(status == 0, "pthread_create failed with \(status)")
        threads.append(thread)
    }

    private func work(_ index: Int) {
        var seen = 0
        while true {
            seen = awaitGeneration(after: seen)
            if stopping.load(ordering: .acquiring) { return }
            lora_region_call(job, index)
            remaining.subtract(1, ordering: .releasing)
        }
    }

    private func awaitGeneration(after seen: Int) -> Int {
        for _ in 0..<Self.spins {
            let current = generation.load(ordering: .acquiring)
            if current != seen { return current }
            lora_pause()
        }
        condition.lock()
        defer { condition.unlock() }
        sleepers.add(1, ordering: .sequentiallyConsistent)
        defer { sleepers.subtract(1, ordering: .sequentiallyConsistent) }
        while generation.load(ordering: .sequentiallyConsistent) == seen { condition.wait() }
        return generation.load(ordering: .acquiring)
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
