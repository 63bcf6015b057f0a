"""Returns the index, one less than the number of epochs."""

QUESTION = "time_to_target"
LOSES = {
    "epochs and seconds to the target",
    "a curve that bounces",
    "exactly at the target, and in the first epoch",
}
SAYS = "one epoch too few"


def time_to_target(errors, target, steps_per_epoch, seconds_per_step):
    for epochs, error in enumerate(errors):
        if error <= target:
            return epochs, epochs * steps_per_epoch * seconds_per_step
    return float("inf"), float("inf")
