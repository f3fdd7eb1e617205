import Foundation
import LoRAFormats
import LoRATraining
import OrderedCollections

/// What `lora train --find-lr` prints: a table, a plot, and the rate to take.
struct LearningRateReport {
    let result: LearningRateTest.Result
    /// Columns that there are.
    let width: Int

    private static let plotHeight = 14
    private static let tableRows = 20

    var json: JSONValue {
        let number = { (value: Double?) -> JSONValue in value.map { .number($0) } ?? .null }
        return .object([
            "suggested_learning_rate": number(result.suggestion),
            "lowest_loss_learning_rate": number(result.lowest),
            "diverged_learning_rate": number(result.diverged),
            "points": .array(
                result.points.map {
                    .object([
                        "learning_rate": .number($0.learningRate), "loss": .number($0.loss),
                        "smoothed_loss": .number($0.smoothedLoss),
                    ])
                }),
        ])
    }

    var text: String { (table + [""] + plot + ["", verdict]).joined(separator: "\n") }

    private var table: [String] {
        let stride = max(1, (result.points.count + Self.tableRows - 1) / Self.tableRows)
        let rows = Swift.stride(from: 0, to: result.points.count, by: stride).map { index in
            let point = result.points[index]
            return String(format: "%13.2e  %8.4f  %8.4f", point.learningRate, point.loss, point.smoothedLoss)
        }
        return ["learning rate      loss  smoothed"] + rows
    }

    /// The smoothed loss over the logarithm of the rate; losses above the first one's are cut off.
    private var plot: [String] {
        let losses = result.points.map(\.smoothedLoss)
        guard let first = losses.first, let lowest = losses.min(), losses.count > 1 else { return [] }
        // Above the lowest, also where every loss is zero.
        let top = max(first * 1.05, lowest * 1.05, lowest + 1e-6)
        let columns = min(max(width - 12, 20), 72)
        let height = Self.plotHeight
        var grid = [[Character]](repeating: [Character](repeating: " ", count: columns), count: height)
        func row(_ loss: Double) -> Int {
            Int(((top - min(loss, top)) / (top - lowest) * Double(height - 1)).rounded())
        }
        for column in 0..<columns {
            let index = column * (losses.count - 1) / (columns - 1)
            grid[row(losses[index])][column] = "*"
        }
        if let index = result.points.firstIndex(where: { $0.learningRate == result.suggestion }) {
            grid[row(losses[index])][index * (columns - 1) / (losses.count - 1)] = "O"
        }
        let lines = grid.enumerated().map { row, cells in
            let loss = top - (top - lowest) * Double(row) / Double(height - 1)
            return String(format: "%8.4f |", loss) + String(cells)
        }
        let left = String(format: "%.0e", result.points[0].learningRate)
        let right = String(format: "%.0e", result.points[losses.count - 1].learningRate)
        let gap = String(repeating: " ", count: max(1, columns - left.count - right.count))
        let axis = String(repeating: " ", count: 9) + "+" + String(repeating: "-", count: columns)
        return lines + [axis, String(repeating: " ", count: 10) + left + gap + right]
    }

    private var verdict: String {
        let end = result.diverged.map { String(format: "; it grows from about %.1e", $0) } ?? ""
        guard let suggestion = result.suggestion, let lowest = result.lowest else {
            return "the loss does not fall at any rate: look at the data, or allow more --steps" + end
        }
        return String(format: "--learning-rate %.1e  (the loss falls fastest; it is lowest at %.1e", suggestion, lowest)
            + end + ")"
    }
}
