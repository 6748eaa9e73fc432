"""What tests share: where the real rows are."""

import atexit
import os
import shutil
import tempfile
from pathlib import Path

import pytest
from hypothesis import settings

# Before `datasets` is imported: tests neither read nor fill the user's cache.
os.environ["HF_DATASETS_CACHE"] = tempfile.mkdtemp(prefix="omr-datasets-")
atexit.register(shutil.rmtree, os.environ["HF_DATASETS_CACHE"], ignore_errors=True)

# The same examples on every run, and no limit in milliseconds: a first call may load a library.
settings.register_profile("steady", deadline=None, derandomize=True)
settings.load_profile("steady")

FIXTURES = Path(__file__).parent / "fixtures" / "sources"

MIRROR = Path(
    os.environ.get("OMR_HUB_MIRROR", Path(__file__).parents[2] / "shared" / "data" / "hub")
)


@pytest.fixture(scope="session")
def mirror() -> Path:
    """The folder of real rows in Hub layout. A test that needs it says so when it is not there."""
    if not MIRROR.is_dir():
        pytest.skip(f"needs real rows: no mirror folder at {MIRROR} (set OMR_HUB_MIRROR)")
    return MIRROR


@pytest.fixture(scope="session")
def hub_fixtures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A mirror folder in Hub layout with about ten rows of each puzzle dataset and of GSM8K."""
    folder = tmp_path_factory.mktemp("hub")
    for name in ("puzzlevqa", "algopuzzlevqa", "gsm8k"):
        shutil.copytree(FIXTURES / name, folder, dirs_exist_ok=True)
    return folder
