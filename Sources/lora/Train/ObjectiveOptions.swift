import ArgumentParser
import LoRATraining

/// What is minimised.
struct ObjectiveOptions: ParsableArguments {
    @Option(
        help: """
            What is minimised: sft (the loss of the answers), or dpo or orpo, which learn from rows of a prompt, a chosen \
            and a rejected answer.
            """)
    var objective = Objective.sft

    @Option(
        help: """
            For dpo, how strongly the adapter is held to the model it began with; for orpo, the weight of the odds ratio \
            (default: 0.1).
            """)
    var beta: Double?

    func validate() throws {
        guard let beta else { return }
        guard objective.comparesAnswers else {
            throw ValidationError("--beta needs --objective dpo or orpo")
        }
        guard beta.isFinite, beta > 0 else { throw ValidationError("--beta must be above 0") }
    }
}
