"""The epoch with the smallest error."""

QUESTION = "time_to_target"
LOSES = {
    "epochs and seconds to the target",
    "a curve that bounces",
    "exactly at the target, and in the first epoch",
    "a target that is never reached",
}
SAYS = "the epoch with the smallest error"


def time_to_target(errors, target, steps_per_epoch, seconds_per_step):
    epochs = int(np.argmin(errors)) + 1
    return epochs, epochs * steps_per_epoch * seconds_per_step
