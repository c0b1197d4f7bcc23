"""What every test shares: one thread, pages without charts, and the folder where real data may
be.
"""

import os
import shutil
from pathlib import Path

import hypothesis
import pytest
import torch
from tests.charts import charts
from tests.clocks import short_clocks

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
    """Call with a data set's folder (``"MNIST"``): gives the root, or skips and says what is
    missing.
    """

    def need(folder: str) -> Path:
        if not (data_root / folder).exists():
            pytest.skip(f"needs {folder} under {data_root} (TOMBOLA_DATA names another root)")
        return data_root

    return need


@pytest.fixture(scope="module")
def browser():
    """Chromium, begun once for a file of tests."""
    playwright = pytest.importorskip("playwright.sync_api")
    known = filter(shutil.which, ("chromium", "chromium-browser", "google-chrome"))
    chromium = next(known, None)
    if chromium is None:
        pytest.skip("needs chromium")
    with playwright.sync_playwright() as driver:
        opened = driver.chromium.launch(
            executable_path=shutil.which(chromium), args=["--no-sandbox", "--disable-gpu"]
        )
        yield opened
        opened.close()


@pytest.fixture(scope="session", autouse=True)
def without_charts():
    """Leave the charts out of every page, but where a test looks at them."""
    with charts(drawn=False):
        yield


@pytest.fixture(scope="session", autouse=True)
def clocks():
    """Measure clocks as briefly as can be."""
    with short_clocks():
        yield


@pytest.fixture(scope="module")
def with_charts(without_charts):
    """Draw the charts of all pages of a module, as every user's run does."""
    with charts(drawn=True):
        yield
