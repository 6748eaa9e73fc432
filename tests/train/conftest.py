"""What the tests of the trainer share. Tensor shapes are checked at every call of these modules."""

from collections.abc import Iterator

import pytest
import torch
from jaxtyping import install_import_hook

import tests.train.checker  # noqa: F401

CHECKED = [f"omr_data.train.{name}" for name in ("losses", "batches", "model", "rewards")]

# Before anything imports these modules. In a user's process nothing is checked: a check costs more
# than some of the calls.
with install_import_hook(CHECKED, "tests.train.checker.typechecked"):
    from omr_data.train import batches, losses, model, rewards  # noqa: F401

from omr_data.teachers import tiny  # noqa: E402
from omr_data.train.chat import Encoder  # noqa: E402
from omr_data.train.model import Policy, load_policy  # noqa: E402
from omr_data.train.settings import ModelSettings  # noqa: E402
from tests.train.helpers import ALONE  # noqa: E402


@pytest.fixture(scope="session")
def encoder() -> Encoder:
    """The encoder of the embedded model."""
    return Encoder(str(tiny.FOLDER))


@pytest.fixture(scope="session")
def policy() -> Policy:
    """The embedded model. Tests do not change its weights."""
    return load_policy(ModelSettings(), ALONE)


@pytest.fixture(scope="package", autouse=True)
def one_thread() -> Iterator[None]:
    """As torchrun sets it for each process: sums in another order would be other numbers."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)
