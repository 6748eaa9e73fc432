"""A model in this process needs vLLM: `make test-vllm` runs the same contract where it is."""

from omr_data.teacher import Teacher
from omr_data.teachers import vllm_offline

EXTRA = "vllm"


def without_extra() -> Teacher:
    """Returns a teacher that can be declared without the package, and not opened."""
    return vllm_offline.Teacher("tiny")
