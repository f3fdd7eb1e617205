internal import LoRAFormats
public import LoRAModel
internal import OrderedCollections

/// Carries out a training run: steps, validation, and the adapter's file at the end.
public final class TrainingRun {
    public let setup: TrainingSetup
    private let pool: ThreadPool
    private let trainer: Trainer
    private let objective: PreferenceObjective?
    private var progress = RunProgress()
    /// The adapter's values when validation was best; nil when the last ones are kept.
    private let bestValues: AdapterParameters?
    private let checkpointDirectory: CheckpointDirectory
    private let toolVersion: String
    /// Steps done at the last checkpoint.
    private var savedStep: Int?
    /// Made at the first checkpoint: where the base's fingerprint cannot be kept, all of the base is read for it.
    private lazy var identity = RunIdentity(setup)
    /// What the user should know of a run that goes on from a checkpoint.
    public private(set) var warnings: [String] = []
    /// "oneDNN" or "OpenBLAS".
    public var engineName: String { trainer.pass.engineName }
    /// Whether blocks are computed again on the way back.
    public var checkpoints: Bool { trainer.pass.checkpoints }

    /// Takes the memory, makes sure that the output can be written before hours are spent on it, and goes back to the
    /// checkpoint that the options ask for.
    /// - Throws: `FormatError`, also when the checkpoint is of another run.
    public init(_ setup: TrainingSetup, pool: ThreadPool, toolVersion: String) throws {
        self.setup = setup
        self.pool = pool
        self.toolVersion = toolVersion
        try TrainingOutput(setup).check()
        checkpointDirectory = try setup.openCheckpoints()
        trainer = try setup.makeTrainer(pool: pool)
        // Before the adapter goes back to a checkpoint: the reference is what the run began with.
        objective = setup.makeObjective()
        bestValues = setup.keepsBest ? AdapterParameters(layout: setup.adapter.layout) : nil
        if setup.options.resumes { try resume() }
    }

    /// Runs all steps that are left and writes the adapter. `recorders` see everything that happens; `isInterrupted` is
    /// asked before each step and each pass of a validation.
    /// - Throws: `TrainingError` when training diverges, `FormatError` when a file cannot be written (the steps done are
    ///   in a checkpoint then, if that can), and what a recorder throws.
    public func run(
        recorders: [any RunRecorder] = [], isInterrupted: () -> Bool
    ) throws -> TrainingOutcome {
        for recorder in recorders { try recorder.begin(progress.events) }
        let summary: TrainingSummary?
        do {
            summary = try takeSteps(recorders, isInterrupted: isInterrupted) ? finish() : nil
            if let summary { for recorder in recorders { try recorder.finish(summary) } }
        } catch let error as FormatError {
            throw keepingSteps(error)
        }
        guard let summary else { return try interrupt() }
        try checkpointDirectory.removeAll()
        return .finished(summary)
    }

    /// Carries out the steps that are left, with what comes between them.
    /// - Returns: false when the user wanted to end before the last.
    private func takeSteps(_ recorders: [any RunRecorder], isInterrupted: () -> Bool) throws -> Bool {
        var batches = setup.plan.batches(from: progress.step)
        while true {
            if isEvaluationDue {
                guard let record = try evaluate(isInterrupted: isInterrupted) else { return false }
                try append(.evaluation(record), recorders)
            }
            if isFinished { return true }
            if isInterrupted() { return false }
            if isSaveDue { try save() }
            guard let (step, indices) = batches.next() else { return true }
            try append(.step(try advance(step, indices)), recorders)
        }
    }

    private func append(_ event: RunEvent, _ recorders: [any RunRecorder]) throws {
        progress.append(event)
        for recorder in recorders { try recorder.record(event) }
    }

    /// One optimizer step of the run's objective over the examples at `indices`.
    private func step(_ indices: [Int], learningRate: Double) throws -> StepReport {
        try trainer.step(indices, of: setup.dataset, objective: objective, learningRate: learningRate)
    }

    /// Carries out step `step`, from 0.
    private func advance(_ step: Int, _ indices: [Int]) throws -> StepRecord {
        let start = ContinuousClock.now
        let report = try self.step(indices, learningRate: setup.schedule.learningRate(at: step))
        let seconds = (ContinuousClock.now - start) / .seconds(1)
        return StepRecord(
            report: report, epoch: setup.plan.epochs(afterStep: step), blockGradientNorms: trainer.blockGradientNorms(),
            seconds: seconds, peakResidentBytes: Self.peakResidentBytes)
    }

    private var isFinished: Bool {
        progress.step >= setup.plan.stepCount
            || setup.options.patience.map { progress.evaluationsSinceBest >= $0 } ?? false
    }
}

// MARK: Checkpoints

extension TrainingRun {
    /// Everything that the run changes: the trainer's arrays, and the best adapter once there is one.
    private func arrays(_ progress: RunProgress) -> CheckpointArrays {
        let best = progress.best == nil ? nil : bestValues
        return CheckpointArrays(
            arrays: trainer.arrays + (best.map { [("best_values", $0.values)] } ?? []),
            count: setup.adapter.layout.parameterCount)
    }

    private var isSaveDue: Bool {
        guard let interval = setup.options.saveInterval else { return false }
        return progress.step > 0 && progress.step % interval == 0
    }

    /// Writes a checkpoint of this moment, unless there is one.
    private func save() throws {
        guard savedStep != progress.step else { return }
        try checkpointDirectory.write(step: progress.step) { directory in
            try Checkpoint.write(
                to: directory, identity: identity, progress: progress, arrays: arrays(progress), threads: pool.count,
                toolVersion: toolVersion)
        }
        savedStep = progress.step
    }

    private func interrupt() throws -> TrainingOutcome {
        try save()
        return .interrupted(checkpoints: checkpointDirectory.path, step: progress.step)
    }

    /// Writes a checkpoint before the run ends with `error`: a log, an adapter or a report that cannot be written does not
    /// cost the steps done.
    private func keepingSteps(_ error: FormatError) -> FormatError {
        guard (try? save()) != nil else { return error }
        return FormatError(
            "\(error.message); a checkpoint of step \(progress.step) was written: go on with --resume "
                + checkpointDirectory.path, file: error.file)
    }

    /// Goes back to the latest checkpoint that is whole.
    private func resume() throws {
        let steps = try checkpointDirectory.steps()
        var damage: [String] = []
        for step in steps {
            do {
                let checkpoint = try Checkpoint(directory: checkpointDirectory.path(ofStep: step))
                try checkIdentity(of: checkpoint)
                progress = try checkpoint.restore(arrays)
                trainer.resume(afterStep: step)
                savedStep = step
                warnings += damage.map { "\($0); going on from the checkpoint before it" }
                return
            } catch let error as FormatError {
                damage.append(error.description)
            }
        }
        throw FormatError(
            damage.isEmpty ? "no checkpoint is here" : damage.joined(separator: "; "), file: checkpointDirectory.path)
    }

    /// - Throws: `TrainingDataError` when `checkpoint` is of another run.
    private func checkIdentity(of checkpoint: Checkpoint) throws {
        let differences = identity.differences(from: checkpoint.identity)
        guard differences.isEmpty else {
            throw TrainingDataError(
                "\(checkpointDirectory.path): the checkpoint is of another run: \(differences.joined(separator: ", ")); "
                    + "give the options and files that it was begun with")
        }
        let (here, there) = (
            ["\(pool.count) threads", "lora \(toolVersion)"],
            ["\(checkpoint.threads) threads", "lora \(checkpoint.toolVersion)"]
        )
        for (here, there) in zip(here, there) where here != there {
            warnings.append(
                "the checkpoint was written with \(there), this is \(here): results may differ in last digits")
        }
    }
}

extension TrainingSetup {
    /// The directory of the run's checkpoints, for this run alone.
    /// - Throws: `FormatError` when another run has it, or left its checkpoints there.
    fileprivate func openCheckpoints() throws -> CheckpointDirectory {
        let path = options.checkpointsPath ?? options.outputPath + ".checkpoints"
        if options.resumes, !CheckpointDirectory.exists(path) {
            throw FormatError(
                "there is no directory of checkpoints to go on from; a run that ended removes its own", file: path)
        }
        let directory = try CheckpointDirectory(path: path)
        guard options.resumes else {
            guard let step = try directory.steps().first else { return directory }
            throw FormatError(
                "holds a checkpoint of step \(step) of a run that did not end; go on with --resume \(path), remove it, "
                    + "or name another --checkpoints", file: path)
        }
        return directory
    }
}

// MARK: Validation

extension TrainingRun {
    private var isEvaluationDue: Bool {
        guard setup.validation != nil, progress.step > progress.evaluatedStep else { return false }
        return progress.step == setup.plan.stepCount || progress.step % setup.evaluationInterval == 0
    }

    /// Measures the validation data, and remembers the adapter when it has never done better.
    /// - Returns: nil when the user wanted to end meanwhile.
    /// - Throws: `TrainingError` when the loss is not finite.
    private func evaluate(isInterrupted: () -> Bool) throws -> EvaluationRecord? {
        guard let validation = setup.validation else { return nil }
        let start = ContinuousClock.now
        let measured = Validation(dataset: validation, objective: objective, pass: trainer.pass)
            .outcome(isInterrupted: isInterrupted)
        guard let (loss, metrics) = measured else { return nil }
        guard loss.isFinite else { throw TrainingError.diverged(step: progress.step, loss: loss, gradientNorm: .nan) }
        let isBest = progress.isBest(loss)
        if isBest, let bestValues {
            bestValues.values.update(from: setup.adapter.values, count: setup.adapter.layout.parameterCount)
        }
        return EvaluationRecord(
            step: progress.step, loss: loss, isBest: isBest, seconds: (ContinuousClock.now - start) / .seconds(1),
            metrics: metrics)
    }

    /// Writes the adapter that is kept.
    private func finish() throws -> TrainingSummary {
        var (keptStep, validationLoss) = (progress.step, progress.lastEvaluation)
        if let bestValues, let best = progress.best {
            setup.adapter.values.update(from: bestValues.values, count: setup.adapter.layout.parameterCount)
            (keptStep, validationLoss) = (best.step, best.loss)
        }
        let file = TrainedFile(
            setup: setup, progress: progress, keptStep: keptStep, validationLoss: validationLoss, threads: pool.count,
            toolVersion: toolVersion)
        let bytes = try file.make().serialized()
        try AtomicFile.write(bytes, to: setup.options.outputPath)
        return TrainingSummary(
            adapterPath: setup.options.outputPath, adapterBytes: bytes.count, steps: progress.step, keptStep: keptStep,
            tokens: progress.tokens, supervisedTokens: progress.supervisedTokens, seconds: progress.seconds,
            peakResidentBytes: Self.peakResidentBytes, losses: progress.losses, validationLoss: validationLoss,
            bestValidationLoss: progress.best?.loss)
    }
}
