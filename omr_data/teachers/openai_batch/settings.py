"""Settings of a model that is asked in batches. None of them is identity."""

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from omr_data.identity import runtime_field
from omr_data.teachers.openai_api.settings import ServedModel


@dataclass(frozen=True)
class BatchModel(ServedModel):
    """One model with its sampling parameters, as `ServedModel`; prices are the live ones.

    `concurrency`, `tries`, `silence` and `stop_share` mean nothing here: what fails in a batch is
    recorded, and asked again by the next run.

    Raises:
        TeacherError: A parameter that no provider takes.
    """

    name: ClassVar[str] = ServedModel.name
    """One name for all ways of asking a model, so that they share rollout keys."""
    at_least_one: ClassVar[tuple[str, ...]] = (
        *ServedModel.at_least_one,
        "requests_per_file",
        "bytes_per_file",
        "batches_at_once",
    )
    """Fields that must be 1 or more."""
    price_share: ClassVar[float] = 0.5
    """Hosted providers take half the live price for a batch."""

    # The limits of OpenAI; others that take less are told by these fields.
    requests_per_file: int = runtime_field(50_000)
    """Most requests of one batch."""
    bytes_per_file: int = runtime_field(200_000_000)
    """Most bytes of one batch's file."""
    batches_at_once: int = runtime_field(4)
    """Most batches under way."""
    # A look costs one small request, and batches take minutes at least.
    poll: float = runtime_field(30.0)
    """Seconds between two looks at the provider."""
    folder: Path | None = runtime_field(None)
    """Where the journal of bought batches is. A build puts it into its workspace."""
