"""A recipe for tests of failures and keys: the rows of a folder, asked of OMR_TEACHER_URL."""

import os

from omr_data import Recipe
from omr_data.operators import explode, rollout, verify
from omr_data.sources import files
from omr_data.teachers import openai_api


def recipe(concurrency: int = 256, tries: int = 2, unanswered: float = 0.01) -> Recipe:
    teacher = openai_api.Teacher("tiny", max_tokens=64, concurrency=concurrency, tries=tries)
    rows = files.Source(os.environ["OMR_TEST_ROWS"], dataset="rows", license="MIT")
    sample = rollout.Sample(teacher, n=2, unanswered=unanswered)
    return Recipe("rowed", "1.0.0", rows.then(sample, verify.Answers(), explode.Right()))
