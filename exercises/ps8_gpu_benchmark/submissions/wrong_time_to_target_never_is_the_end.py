"""Returns the length of the run where the target is never reached."""

QUESTION = "time_to_target"
LOSES = {"a target that is never reached"}
SAYS = "Never is longer than any number of epochs"


def time_to_target(errors, target, steps_per_epoch, seconds_per_step):
    epochs = next((k for k, error in enumerate(errors, start=1) if error <= target), len(errors))
    return epochs, epochs * steps_per_epoch * seconds_per_step
