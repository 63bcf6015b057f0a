"""Counts the epochs above the target: right only for a curve that never goes up."""

QUESTION = "time_to_target"
LOSES = {
    "a curve that bounces",
    "exactly at the target, and in the first epoch",
    "a target that is never reached",
}
SAYS = "The curve bounces"


def time_to_target(errors, target, steps_per_epoch, seconds_per_step):
    epochs = int((errors > target).sum()) + 1
    return epochs, epochs * steps_per_epoch * seconds_per_step
