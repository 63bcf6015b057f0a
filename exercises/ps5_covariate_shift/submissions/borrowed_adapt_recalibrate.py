"""Calls the library's recalibration."""

QUESTION = "adapt"
FLAGS = "bnlab.retrofit"


def adapt(model, batches):
    from bnlab.retrofit import recalibrate

    return recalibrate(model, batches)
