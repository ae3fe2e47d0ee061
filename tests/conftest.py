"""What tests of several folders share."""

import importlib
import sys
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def example():
    """``example("minigpt")`` is the module ``examples/minigpt.py``."""
    folder = str(Path(__file__).parent.parent / "examples")
    sys.path.insert(0, folder)
    yield importlib.import_module
    sys.path.remove(folder)
