"""`import bnlab` is cheap and works without torch; what needs torch says so."""

import subprocess
import sys
from importlib import metadata

import pytest


def run(code, without_torch=False):
    """Run code in a fresh interpreter, optionally in one where `import torch` fails as if it were not installed."""
    block = "import sys; sys.modules['torch'] = None\n" if without_torch else ""
    return subprocess.run([sys.executable, "-c", block + code], capture_output=True, text=True, timeout=120)


def check(code, without_torch=False):
    result = run(code, without_torch)
    assert result.returncode == 0, result.stderr
    return result.stdout.strip()


def test_import_loads_neither_torch_nor_numpy():
    heavy = check(
        "import bnlab, sys\n"
        "dir(bnlab), bnlab.__doc__\n"
        "print(sorted({name.partition('.')[0] for name in sys.modules} & {'torch', 'numpy', 'matplotlib', 'scipy'}))"
    )
    assert heavy == "[]"


def test_version_is_the_installed_one():
    assert check("import bnlab; print(bnlab.__version__)", without_torch=True) == metadata.version("bnlab")


def test_version_of_sources_that_are_not_installed():
    code = (
        "import importlib.metadata as metadata, bnlab\n"
        "def missing(name): raise metadata.PackageNotFoundError(name)\n"
        "metadata.version = missing\n"
        "print(bnlab.__version__)"
    )
    assert check(code) == "0+unknown"


@pytest.mark.parametrize(
    "code",
    [
        "import bnlab; bnlab.BatchNorm2d",
        "import bnlab; bnlab.functional",
        "from bnlab import BatchNorm1d",
        "from bnlab.functional import batch_norm",
        "import bnlab.modules",
    ],
)
def test_without_torch_the_error_says_what_to_type(code):
    result = run(code, without_torch=True)
    assert result.returncode != 0
    last = result.stderr.strip().splitlines()[-1]
    assert last.startswith("ModuleNotFoundError") and 'pip install "torch' in last, last


def test_lazy_names():
    code = (
        "import bnlab\n"
        "names = ['BatchNorm1d', 'BatchNorm2d', 'BatchNorm3d', 'functional', '__version__']\n"
        "assert set(names) <= set(dir(bnlab)), dir(bnlab)\n"
        "import torch\n"
        "from bnlab import modules\n"
        "assert bnlab.BatchNorm1d is modules.BatchNorm1d and issubclass(bnlab.BatchNorm3d, torch.nn.BatchNorm3d)\n"
        "assert bnlab.functional.batch_norm(torch.tensor([[0.], [2.]]), None, None, training=True)[1] > 0.99\n"
    )
    check(code)


def test_unknown_name_is_an_attribute_error():
    result = run("import bnlab; bnlab.BatchNorm4d", without_torch=True)
    assert "AttributeError: module 'bnlab' has no attribute 'BatchNorm4d'" in result.stderr
