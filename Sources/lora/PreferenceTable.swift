import Foundation
import LoRAFormats
import LoRATraining
import OrderedCollections

/// What `lora eval` prints of rows that are pairs of answers: how the base and each adapter rank them.
struct PreferenceTable {
    let split: String
    let pairCount: Int
    let beta: Double
    /// The base's is the first, without a name.
    let results: [Result]

    typealias Result = (adapter: String?, scores: PairScores, seconds: Double)

    private var base: PairScores { results[0].scores }

    var json: JSONValue {
        let rows = results.map { result -> JSONValue in
            let isBase = result.adapter == nil
            return .object([
                "adapter": result.adapter.map { .string($0) } ?? .null,
                "loss": .number(result.scores.chosenLoss),
                "perplexity": .number(exp(result.scores.chosenLoss)),
                "ranking_accuracy": .number(result.scores.ranking),
                "preference_accuracy": isBase ? .null : .number(result.scores.accuracy(against: base)),
                "reward_margin": isBase ? .null : .number(result.scores.margin(against: base, beta: beta)),
                "seconds": .number(result.seconds),
            ])
        }
        return .object([
            "split": .string(split),
            "pairs": .integer(Int64(pairCount)),
            "beta": .number(beta),
            "results": .array(rows),
        ])
    }

    var text: String {
        let name = { (adapter: String?) in adapter ?? "base" }
        let width = max(10, results.map { name($0.adapter).count }.max() ?? 0)
        let pad = { (text: String) in Console.padded(text, to: width) }
        var lines = [pad("model") + "      loss  perplexity   ranking  preference    margin   seconds"]
        for result in results {
            let compared =
                result.adapter == nil
                ? "           -         -"
                : String(
                    format: "%12.3f  %8.3f", result.scores.accuracy(against: base),
                    result.scores.margin(against: base, beta: beta))
            lines.append(
                pad(name(result.adapter))
                    + String(
                        format: "%10.4f  %10.2f  %8.3f", result.scores.chosenLoss,
                        exp(result.scores.chosenLoss),
                        result.scores.ranking) + compared + String(format: "  %8.1f", result.seconds))
        }
        return (lines + ["\(split): \(pairCount) pairs"]).joined(separator: "\n")
    }
}
