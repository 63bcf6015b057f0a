"""The kernels for a GPU: their own tests, in a process of their own; and what happens where they can't be used."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import bnlab
from bnlab import backends
from bnlab.backends import eager

pytest.importorskip("triton", reason="Triton is not installed: pip install 'bnlab[gpu]'")


def test_the_kernels():
    """On a GPU where there is one, else through the interpreter, which is chosen when Triton is imported."""
    environment = os.environ if torch.cuda.is_available() else {**os.environ, "TRITON_INTERPRET": "1"}
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-n", "0"]
    done = subprocess.run(
        [*command, str(Path(__file__).with_name("triton_kernels.py"))], env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout[-5000:]
    assert " passed" in done.stdout and "failed" not in done.stdout


@pytest.mark.skipif(os.environ.get("TRITON_INTERPRET") == "1", reason="the interpreter is wanted here")
def test_on_a_cpu_without_the_interpreter_eager_is_used(monkeypatch):
    monkeypatch.setattr(backends, "_warned", set())
    with bnlab.use_backend("triton"), pytest.warns(RuntimeWarning, match="'triton' can't be used for a tensor on cpu"):
        assert backends.choose(torch.zeros(4, 3)) is eager
