import ArgumentParser
import Foundation
import LoRAFormats
import LoRAModel
import LoRAText
import LoRATraining

/// `lora merge`: adapters into the weights of a base.
struct MergeCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "merge",
        abstract: "Put adapters into the weights of a base.",
        discussion: """
            Without --output the base itself is replaced; lora unmerge takes it back.

            Example:
              lora merge adapters/smart-home.lora --into models/base.bin --output merged.bin --type f16
            """)

    @Argument(help: ArgumentHelp("Adapters, with weights: x.lora or x.lora:0.5.", valueName: "adapter"))
    var adapters: [WeightedAdapter]

    @Option(help: ArgumentHelp("The base model, a GGUF file.", valueName: "file"))
    var into: String

    @Option(help: ArgumentHelp("The merged base (default: replace the base).", valueName: "file"))
    var output: String?

    @Option(help: "Type of the tensors that change: same, f32, f16, bf16 or q8_0.")
    var type = MergeType.same

    @Option(help: "How several adapters become one: linear, ties or dare.")
    var method = MethodOption.linear

    @Option(help: "Share of a delta's values that ties and dare keep (default: 0.5).")
    var density: Double?

    @Option(help: "Seed of what dare drops (default: 0).")
    var seed: UInt64?

    @Flag(help: "Merge an adapter that is in the base already.")
    var again = false

    @Option(
        help: ArgumentHelp(
            "Rows to measure the loss on, unmerged and merged: a directory or a file.", valueName: "path"))
    var data: String?

    @Option(help: "The part of the data: train, valid or test.")
    var split = Dataset.Split.test

    @Option(help: "Only so many rows of the data.")
    var limit: Int?

    @Flag(help: "Print one JSON object.")
    var json = false

    @OptionGroup var otherBase: OtherBaseOptions
    @OptionGroup var common: CommonOptions

    func validate() throws {
        if adapters.isEmpty { throw ValidationError("name an adapter to merge") }
        if let density, !(density > 0 && density <= 1) {
            throw ValidationError("--density must be above 0 and at most 1")
        }
        if density != nil, method == .linear { throw ValidationError("--density goes with --method ties or dare") }
        if seed != nil, method != .dare { throw ValidationError("--seed goes with --method dare") }
        if let limit, limit < 1 { throw ValidationError("--limit must be at least 1") }
        if data == nil, limit != nil { throw ValidationError("--limit goes with --data") }
    }

    func run() throws {
        let model = try BaseModel(path: into)
        if let output { try refuse(output: output) }
        var merge = try Merge(
            base: model,
            sources: try adapters.map {
                .init(path: $0.path, file: try AdapterFile.read(path: $0.path), weight: $0.weight)
            }, method: mergeMethod, type: type, again: again, allowsOtherBase: otherBase.allowOtherBase)
        let pool = common.makePool()
        defer { pool.shutdown() }
        let heldOut = try data.map { try HeldOutData(path: $0, split: split, limit: limit, base: model) }
        let unmerged = try heldOut.map { heldOut in
            note("measuring the loss before the merge")
            return try heldOut.loss(of: model, with: combined(merge), pool: pool)
        }
        note("merging \(adapters.map(\.path).joined(separator: ", ")) into \(output ?? into)")
        let start = ContinuousClock.now
        let report = try write(&merge, pool)
        let seconds = (ContinuousClock.now - start) / .seconds(1)
        let merged = try heldOut.map { heldOut in
            note("measuring the loss after the merge")
            return try heldOut.loss(of: BaseModel(path: output ?? into), with: nil, pool: pool)
        }
        let undo = output == nil ? UndoFile.path(for: try UndoFile.resolved(into)) : nil
        let summary = MergeSummary(
            merge: merge, report: report, path: output ?? into, undo: undo,
            losses: unmerged.flatMap { unmerged in merged.map { (unmerged, $0) } }, seconds: seconds)
        if let warning = summary.warning { Console.note("warning: \(warning)") }
        Console.print(json ? summary.json.serialized() : summary.text)
    }

    /// Writes the merged base, unless the user interrupts.
    private func write(_ merge: inout Merge, _ pool: ThreadPool) throws -> MergeReport {
        let interruption = Interruption()
        merge.isCancelled = { interruption.isRequested }
        do {
            return try output.map { try merge.write(to: $0, pool: pool) } ?? merge.replaceBase(pool: pool)
        } catch is CancellationError {
            Console.note("interrupted: nothing was written")
            throw ExitCode(130)
        }
    }

    private var mergeMethod: MergeMethod {
        switch method {
        case .linear: .linear
        case .ties: .ties(density: density ?? 0.5)
        case .dare: .dare(density: density ?? 0.5, seed: seed ?? 0)
        }
    }

    /// The weighted sum of the adapters, whatever the method: what runs without merging.
    private func combined(_ merge: Merge) -> AdapterParameters {
        .combining(merge.parts, base: merge.base)
    }

    /// An output in the place of what is read would leave nothing to go back to.
    private func refuse(output: String) throws {
        let read = [into] + adapters.map(\.path)
        guard let existing = try? UndoFile.resolved(output) else { return }
        if try read.contains(where: { try UndoFile.resolved($0) == existing }) {
            throw FormatError("is read by this merge; leave --output away to replace the base", file: output)
        }
    }

    private func note(_ text: String) { if !common.quiet { Console.note(text) } }
}

/// `--method`.
enum MethodOption: String, ExpressibleByArgument, CaseIterable {
    case linear, ties, dare
}
