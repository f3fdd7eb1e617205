public import ArgumentParser
public import LoRAModel
public import LoRATraining

// The library's own choices, taken from the command line by their names.
extension Checkpointing: ExpressibleByArgument {}
extension Objective: ExpressibleByArgument {}
extension Schedule.Course: ExpressibleByArgument {}
extension Dataset.Split: ExpressibleByArgument {}
extension LossMask: ExpressibleByArgument {}
extension MergeType: ExpressibleByArgument {}
extension TrainingOptions.Keep: ExpressibleByArgument {}
