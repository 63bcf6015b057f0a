"""What all tests need: no deadlines, and one library's log handler kept away from pytest's capture."""

import sys

import pytest
from hypothesis import settings

settings.register_profile("course", deadline=None)  # a busy machine is no failure
settings.load_profile("course")


@pytest.fixture(autouse=True)
def _capture_survives_absl():
    """Point absl's log handler at the real stderr.

    Flax brings absl, whose handler takes hold of the stderr it finds: under pytest, the capture's file. When nbgrader
    configures its logging, Python closes all handlers there are, absl's handler closes that file, and every later test
    of the process fails.
    """
    yield
    if "absl.logging" in sys.modules:
        sys.modules["absl.logging"].get_absl_handler().python_handler.stream = sys.__stderr__
