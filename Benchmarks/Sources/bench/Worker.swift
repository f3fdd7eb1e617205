import Foundation
import LoRAFormats
import LoRAModel
import LoRAText
import LoRATraining

/// Measures one workload. It has the process to itself, so that the peak of memory and the time since the start are the
/// workload's own.
struct Worker {
    let workload: Workload
    let base: String
    let data: String
    let threads: Int
    /// After the first one.
    let steps: Int

    /// What `lora train` allows the process, and what it sets aside of that beside the base and the buffers.
    private static let (allowed, processMemory) = (3 << 29, 64 << 20)
    /// Rows that `lora train` packs into a pass when no example is longer.
    private static let rowsPerPass = 1024

    func run() throws -> Measurement {
        let model = try BaseModel(path: base)
        let pool = ThreadPool(count: threads)
        defer { pool.shutdown() }
        let (examples, dataSeconds) = try examples(model)
        let layout = AdapterLayout(configuration: model.configuration) { _, target in
            workload.targets.modules.contains(target) ? (workload.rank, 2) : nil
        }
        let adapter = AdapterParameters(layout: layout)
        adapter.initialize(seed: 0)
        let pass = try TrainingPass(model: model, adapter: adapter, pool: pool, plan: plan(model, examples))
        let trainer = Trainer(pass: pass, pool: pool, weightDecay: 0, maximumGradientNorm: 1, seed: 0)
        let start = Self.secondsSinceStart
        let first = try Self.step(trainer, examples[0])
        let end = Self.secondsSinceStart
        let rest = try examples.dropFirst().map { try Self.step(trainer, $0) }
        return Measurement(
            workload: workload.name, engine: pass.engineName, threads: threads, recomputes: pass.checkpoints,
            steps: [first] + rest, dataSeconds: dataSeconds, secondsToFirstStep: start, secondsToFirstStepEnd: end,
            peakResidentBytes: TrainingRun.peakResidentBytes,
            gigaflopsPerToken: workload.sharesPrefixes
                ? nil : Floor(model.configuration).gigaflopsPerToken(examples[0]))
    }

    private static func step(_ trainer: Trainer, _ examples: [Example]) throws -> Measurement.Step {
        let (before, begin) = (trainer.pass.phases, ContinuousClock.now)
        let report = try trainer.step(examples, learningRate: 1e-4)
        let seconds = (ContinuousClock.now - begin) / .seconds(1)
        let phases = trainer.pass.phases - before
        return Measurement.Step(
            tokens: report.tokens, seconds: seconds, forward: phases.forward, loss: phases.loss,
            backward: phases.backward)
    }

    /// As `lora train` plans a pass when its options are left alone.
    private func plan(_ model: BaseModel, _ steps: [[Example]]) -> TrainingPass.Plan {
        let longest = steps.joined().reduce(1) { max($0, PackedBatch.rowsNeeded(supervised: $1.supervised)) }
        let mapped = model.file.tensors.reduce(0) { $0 + $1.byteCount }
        return TrainingPass.Plan(
            compute: workload.compute, rows: max(longest, Self.rowsPerPass), positions: longest + 1,
            checkpointing: .auto, memory: max(0, Self.allowed - mapped - Self.processMemory))
    }

    /// Examples of each step, and the seconds that reading and encoding those of one step took; nil where nothing is
    /// read.
    private func examples(_ model: BaseModel) throws -> ([[Example]], dataSeconds: Double?) {
        switch workload.data {
        case .random(let count, let length):
            var random = SplitMix64(seed: 1)
            let words = model.configuration.vocabularySize
            let examples = (0...steps).map { _ in
                (0..<count).map { _ in
                    Example(
                        tokens: (0..<length).map { _ in Int32(random.next(below: words)) },
                        supervised: Array(repeating: true, count: length), line: 1)
                }
            }
            return (examples, nil)
        case .decode, .prefill, .traffic: preconditionFailure("\(workload.name) is serving")
        case .rows(let perStep):
            let tokenizer = try Tokenizer(gguf: model.file)
            let encoder = ExampleEncoder(
                tokenizer: tokenizer, format: try ChatFormat(gguf: model.file, tokenizer: tokenizer),
                maximumLength: 2048)
            let begin = ContinuousClock.now
            let rows = try Dataset(path: data + "/train.jsonl", encoder: encoder).examples
            let seconds = (ContinuousClock.now - begin) / .seconds(1)
            guard rows.count >= perStep else {
                throw FormatError("\(data)/train.jsonl: \(rows.count) rows; a step takes \(perStep)")
            }
            let full = rows.count / perStep
            let examples = (0...steps).map { Array(rows[$0 % full * perStep..<($0 % full + 1) * perStep]) }
            return (examples, seconds / Double(rows.count) * Double(perStep))
        }
    }

    /// Seconds since this process was started, to a hundredth: proc(5) tells the start in clock ticks since boot.
    private static var secondsSinceStart: Double? {
        let status = FileManager.default.contents(atPath: "/proc/self/stat").map { String(decoding: $0, as: UTF8.self) }
        // The program's name comes second, in brackets, and may hold anything; the start is the 22nd field.
        let fields = status?.split(separator: ")").last?.split(separator: " ") ?? []
        guard fields.count > 19, let ticks = Double(fields[19]) else { return nil }
        var time = timespec()
        clock_gettime(CLOCK_BOOTTIME, &time)
        return Double(time.tv_sec) + 1e-9 * Double(time.tv_nsec) - ticks / Double(sysconf(Int32(_SC_CLK_TCK)))
    }
}
