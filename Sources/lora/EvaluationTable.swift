import Foundation
import LoRAFormats
import LoRAText
import LoRATraining
import OrderedCollections

/// The results of `lora eval` as people and as programs read them.
struct EvaluationTable {
    let split: String
    let evaluator: Evaluator
    let results: [EvaluationResult]

    var json: JSONValue {
        let prompts = evaluator.questions.reduce(0) { $0 + $1.prompt.count }
        let rows = results.map { result -> JSONValue in
            .object([
                "adapter": result.adapter.map { .string($0) } ?? .null,
                "loss": result.loss.map { .number($0) } ?? .null,
                "perplexity": result.loss.map { .number(exp($0)) } ?? .null,
                "exact_match": result.exactMatch.map { .number($0) } ?? .null,
                "prompt_tokens": .integer(Int64(prompts)),
                "seconds": .number(result.seconds),
            ])
        }
        return .object([
            "split": .string(split),
            "examples": .integer(Int64(evaluator.examples.count)),
            "supervised_tokens": .integer(Int64(evaluator.examples.reduce(0) { $0 + $1.supervisedCount })),
            "results": .array(rows),
        ])
    }

    /// A table with a line per model, and the first rows with everyone's answer.
    func text(rowsShown: Int, tokenizer: Tokenizer) -> String {
        let name = { (result: EvaluationResult) in result.adapter ?? "base" }
        let width = max(10, results.map { name($0).count }.max() ?? 0)
        let pad = { (text: String) in Console.padded(text, to: width) }
        var lines = [pad("model") + "      loss  perplexity  exact match   seconds"]
        for result in results {
            let loss = result.loss.map { String(format: "%10.4f  %10.2f", $0, exp($0)) } ?? "         -           -"
            let match = result.exactMatch.map { String(format: "%11.3f", $0) } ?? "          -"
            lines.append(pad(name(result)) + loss + "  " + match + String(format: "  %8.1f", result.seconds))
        }
        lines.append("\(split): \(evaluator.examples.count) examples")
        for (index, question) in evaluator.questions.prefix(rowsShown).enumerated() {
            lines.append("")
            lines.append("line \(question.line): " + oneLine(tokenizer.decode(question.prompt, skippingSpecial: false)))
            lines.append(pad("expected") + "  " + oneLine(question.answer))
            for result in results {
                guard let answer = result.answers?[index] else { continue }
                lines.append(pad(name(result)) + (answer.isExact ? "= " : "  ") + oneLine(answer.text))
            }
        }
        return lines.joined(separator: "\n")
    }

    /// `text` of a data set or of a model on one line, without what could steer a terminal.
    private func oneLine(_ text: String) -> String {
        let scalars = text.unicodeScalars.map { $0 == "\n" ? "⏎" : $0 }
        return Console.oneLine(String(String.UnicodeScalarView(scalars)))
    }
}
