"""The learning platforms that take scores from here. This module needs nothing, so the command line starts fast."""

from enum import StrEnum


class Platform(StrEnum):
    """Where scores are uploaded, and as what."""

    CANVAS = "canvas"
    MOODLE = "moodle"
    MOODLE_WORKSHEET = "moodle-worksheet"
