/// What training minimises.
public enum Objective: String, Sendable, CaseIterable {
    /// The loss of the answers (supervised fine-tuning).
    case sft
    /// Direct preference optimization (arXiv 2305.18290).
    case dpo
    /// Odds ratio preference optimization (arXiv 2403.07691).
    case orpo

    /// Whether it learns from pairs of answers to one prompt.
    public var comparesAnswers: Bool { self != .sft }
}
