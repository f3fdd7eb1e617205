import Dispatch
import Foundation
import Synchronization

/// Threads that do one job after another, in the order in which they come, apart from those that serve requests.
final class WorkerThreads: Sendable {
    private let jobs = Mutex<[@Sendable () -> Void]>([])
    private let available = DispatchSemaphore(value: 0)
    private let running = DispatchGroup()
    private let count: Int

    init(count: Int, name: String) {
        self.count = count
        for _ in 0..<count {
            running.enter()
            let thread = Thread { [self] in
                work()
                running.leave()
            }
            thread.name = name
            thread.start()
        }
    }

    func run(_ job: @escaping @Sendable () -> Void) {
        jobs.withLock { $0.append(job) }
        available.signal()
    }

    /// Ends the threads when all jobs are done, and waits for that.
    func stop() {
        for _ in 0..<count { available.signal() }
        running.wait()
    }

    private func work() {
        while true {
            available.wait()
            // Every job has a signal; one more means the end.
            guard let job = jobs.withLock({ $0.isEmpty ? nil : $0.removeFirst() }) else { return }
            job()
        }
    }
}
