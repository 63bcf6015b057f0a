"""Waits until the error is below the target, and doesn't accept one at it."""

QUESTION = "time_to_target"
LOSES = {"exactly at the target, and in the first epoch"}
SAYS = "compare with <="


def time_to_target(errors, target, steps_per_epoch, seconds_per_step):
    for epochs, error in enumerate(errors, start=1):
        if error < target:
            return epochs, epochs * steps_per_epoch * seconds_per_step
    return float("inf"), float("inf")
