"""Takes an epoch for a step."""

QUESTION = "time_to_target"
LOSES = {
    "epochs and seconds to the target",
    "a curve that bounces",
    "exactly at the target, and in the first epoch",
}
SAYS = "The steps per epoch are missing"


def time_to_target(errors, target, steps_per_epoch, seconds_per_step):
    for epochs, error in enumerate(errors, start=1):
        if error <= target:
            return epochs, epochs * seconds_per_step
    return float("inf"), float("inf")
