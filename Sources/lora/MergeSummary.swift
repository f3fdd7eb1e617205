import Foundation
import LoRAFormats
import LoRAModel
import OrderedCollections

/// The result of `lora merge` as people and as programs read it.
struct MergeSummary {
    let merge: Merge
    let report: MergeReport
    /// Of the merged base.
    let path: String
    /// The record of an in-place merge.
    let undo: String?
    let losses: (unmerged: Double, merged: Double)?
    let seconds: Double

    /// What to know before using the merged base.
    var warning: String? {
        guard report.survivingShare < MergeReport.warningShare else { return nil }
        let better =
            switch report.worst?.type {
            case .f32, .f16: "--type f32 keeps"
            case .bf16, .q8_0: "--type f16 or f32 keeps"
            default: "--type q8_0, f16 or f32 keep"
            }
        return String(format: "only %.1f%% of the delta survives rounding; ", 100 * report.survivingShare) + better
            + " more"
    }

    var json: JSONValue {
        var members: OrderedDictionary<String, JSONValue> = [
            "base": .string(merge.base.file.path), "output": .string(path), "undo": undo.map { .string($0) } ?? .null,
            "method": .string(merge.method.name), "type": .string(merge.type.rawValue),
            "adapters": .array(
                merge.record.entries.suffix(merge.parts.count).map { entry in
                    .object([
                        "name": .string(entry.name), "weight": .number(Double(entry.weight)),
                        "tensors_sha256": .string(entry.tensorDigest),
                    ])
                }),
            "tensors": .integer(Int64(report.tensors.count)), "surviving_share": .number(report.survivingShare),
            "relative_error": .number(report.relativeError),
        ]
        members["worst"] =
            report.worst.map { worst in
                .object([
                    "tensor": .string(worst.name), "surviving_share": .number(worst.survivingShare),
                    "relative_error": .number(worst.relativeError),
                ])
            } ?? .null
        members["loss"] =
            losses.map { .object(["unmerged": .number($0.unmerged), "merged": .number($0.merged)]) } ?? .null
        members["seconds"] = .number(seconds)
        return .object(members)
    }

    var text: String {
        var lines = [
            "\(path): \(report.tensors.count) tensors changed in " + String(format: "%.1f s", seconds),
            String(
                format: "delta surviving rounding  %6.1f%%   error %.1f%%", 100 * report.survivingShare,
                100 * report.relativeError),
        ]
        if let worst = report.worst {
            lines.append(
                String(
                    format: "worst tensor              %6.1f%%   error %.1f%%   ", 100 * worst.survivingShare,
                    100 * worst.relativeError) + worst.name)
        }
        if let losses {
            lines.append(String(format: "loss  unmerged %.4f   merged %.4f", losses.unmerged, losses.merged))
        }
        if let undo { lines.append("lora unmerge \(merge.base.file.path) goes back (\(undo))") }
        return lines.joined(separator: "\n")
    }
}
