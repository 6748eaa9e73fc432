"""OMR-SFT-874K: the supervised set of OpenMMReasoner (arXiv 2511.16334).

Visual questions of three datasets, each answered eight times by one teacher, and two sets of
mathematical traces that come with their answers. How the traces were chosen is not published, so
their numbers of rows are arguments.

It can be planned. It cannot be built while a dataset has no converter: `omr plan` names them.
OMR_TEACHER_URL says where the teacher is served.
"""

from omr_data import ALL, Recipe, mix, union
from omr_data.operators import decontaminate, dedup, difficulty, explode, limits, rollout, verify
from omr_data.sources import llava_cot, miromind_m1, mmr1, openvlthinker, we_math2_sft
from omr_data.sources.benchmarks import BENCHMARKS
from omr_data.teachers import openai_api

TEACHER = openai_api.Teacher("Qwen/Qwen3-VL-235B-A22B-Instruct", temperature=1.0, max_tokens=16_384)


def recipe(rollouts: int = 8, mmr1_rows: int = 199_425, miromind_rows: int = 91_953) -> Recipe:
    """Builds the set.

    Args:
        rollouts: Attempts for each question.
        mmr1_rows: Traces taken from MMR1.
        miromind_rows: Traces taken from MiroMind-M1.
    """
    questions = union(llava_cot.Source(), openvlthinker.Source(), we_math2_sft.Source()).then(
        limits.ImageSide(at_least=28),
        verify.Gold(),
        dedup.Exact(),
        dedup.NearPair(threshold=0.9),  # same words AND same image
        decontaminate.Against(BENCHMARKS),
    )
    distilled = questions.then(
        rollout.Sample(
            TEACHER, n=rollouts, prompt=rollout.PromptTemplate(system=rollout.THINK_THEN_ANSWER)
        ),
        verify.Answers(),
        difficulty.PassRate(),  # a score, not a filter
        explode.Right(),
    )
    return Recipe(
        name="omr-sft-874k",
        version="1.0.0",
        data=mix(
            {distilled: ALL, mmr1.Source(): mmr1_rows, miromind_m1.Source(): miromind_rows}, seed=0
        ),
        rows=range(865_000, 885_000),
    )
