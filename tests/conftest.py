"""What every test shares: one thread, checked shapes, and the folder where real data may be."""

import os
from pathlib import Path

import hypothesis
import pytest
import torch

torch.set_num_threads(1)

# The same examples in every run, and no deadline: a busy machine is no bug.
hypothesis.settings.register_profile("tests", deadline=None, derandomize=True, database=None)
hypothesis.settings.load_profile("tests")


@pytest.fixture(scope="session")
def data_root() -> Path:
    """The root folder of the real data sets: ``TOMBOLA_DATA`` or the default."""
    return Path(os.environ.get("TOMBOLA_DATA", "~/.cache/tombola/datasets")).expanduser()


@pytest.fixture
def needs_data(data_root):
    """Call with a data set's folder (``"MNIST"``): gives the root, or skips and says what is missing."""

    def need(folder: str) -> Path:
        if not (data_root / folder).exists():
            pytest.skip(f"needs {folder} under {data_root} (TOMBOLA_DATA names another root)")
        return data_root

    return need


@pytest.fixture(scope="module")
def undrawn():
    """Write figures without drawing them: half the time of a small run goes there, and other tests look at them."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("tombola.reports.sheets._drawing", lambda _: "<svg></svg>")
        patch.setattr("tombola.reports.sheets._as", lambda _kind, drawing: drawing.encode())
        yield
