"""What every teacher keeps to. A new file or folder in omr_data/teachers/ is found here by itself.

Each teacher has an example in tests/contracts/teachers; see its docstring. A teacher without one
fails with words that say what to add.
"""

import importlib
import importlib.util
import inspect
import pickle
import pkgutil
import sys
import types
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from pathlib import Path

import pytest

from omr_data import teachers
from omr_data.errors import MissingExtra
from omr_data.identity import fingerprint
from omr_data.records import ImageRef, Message, Response
from omr_data.teacher import Batch, Budget, Failure, Request, Teacher
from tests.contracts import teachers as examples

QUESTIONS = 5
ATTEMPTS = 3


def teacher_modules(package: types.ModuleType) -> list[str]:
    """The last words of the modules and folders that define a teacher."""
    found = []
    for info in pkgutil.iter_modules(package.__path__, f"{package.__name__}."):
        module = importlib.import_module(info.name)
        own = [
            value
            for value in vars(module).values()
            if inspect.isclass(value)
            and issubclass(value, Teacher)
            and value.__module__ == info.name
        ]
        if own:
            found.append(info.name.rpartition(".")[2])
    return found


def example_of(name: str) -> types.ModuleType:
    """The example of one teacher, or words that say what to add."""
    module = f"{examples.__name__}.{name}"
    assert importlib.util.find_spec(module), (
        f"omr_data/teachers/{name} defines a teacher without an example. Add "
        f"tests/contracts/teachers/{name}.py with a context manager `example(folder)` that yields "
        "a teacher which can answer a few text questions on this machine (echo.py beside it is the "
        "shortest), or with EXTRA, the package that it needs (vllm_offline.py)."
    )
    return importlib.import_module(module)


MODULES = teacher_modules(teachers)
RUNNING = [name for name in MODULES if not hasattr(example_of(name), "EXTRA")]
NEEDING = [name for name in MODULES if hasattr(example_of(name), "EXTRA")]


def in_its_tier(name: str) -> object:
    tier = getattr(example_of(name), "TIER", None)
    marks = [getattr(pytest.mark, tier)] if tier else []
    return pytest.param(name, marks=marks, id=name)


@pytest.fixture(scope="module", params=[in_its_tier(name) for name in RUNNING])
def teacher(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Teacher]:
    opened: AbstractContextManager[Teacher] = example_of(request.param).example(
        tmp_path_factory.mktemp(request.param)
    )
    with opened as one:
        yield one


def asked(teacher: Teacher, of: str) -> list[Request]:
    """Some requests; `of` keeps those of one test apart from those of another."""
    return [
        teacher.request([Message("user", f"{of}: what is {number} + 1?")], (), ATTEMPTS)
        for number in range(QUESTIONS)
    ]


def no_image(image: ImageRef) -> bytes:
    raise AssertionError("no question has an image")


def answers(
    teacher: Teacher, batches: Iterator[Batch], budget: Budget
) -> tuple[Counter[tuple[str, int]], list[Response | Failure]]:
    """Asks, and counts how often each attempt of each request came back."""
    came: Counter[tuple[str, int]] = Counter()
    results: list[Response | Failure] = []
    with teacher.open(1, no_image, budget) as session:
        assert isinstance(session.note(), str)
        for group in session.answer(batches):
            for request, got in group:
                came.update((request.key, one.attempt) for one in got)
                results += got
            assert isinstance(session.note(), str)
    return came, results


def test_each_attempt_comes_back_exactly_once(teacher: Teacher) -> None:
    requests = asked(teacher, "once")
    # One batch of several and one of one; the first request wants an attempt in the middle only.
    first = Request(requests[0].key, requests[0].messages, (), (1,), identity=requests[0].identity)
    batches: Sequence[Batch] = [[first, *requests[1:4]], requests[4:]]
    came, results = answers(teacher, iter(batches), Budget())
    wanted = [(one.key, attempt) for batch in batches for one in batch for attempt in one.attempts]
    assert came == Counter(wanted)
    for one in results:
        assert isinstance(one, Response), f"{teacher.name} failed on its own example: {one}"
        assert one.model, "a response names the model that gave it"
        assert one.key in {request.key for request in requests}


def test_a_session_stops_at_the_budget_and_says_so(teacher: Teacher) -> None:
    requests = asked(teacher, "budget")
    budget = Budget(requests=2)
    came, _ = answers(teacher, iter([[one] for one in requests]), budget)
    assert budget.sent <= 2
    assert budget.reached
    assert 0 < len({key for key, _ in came}) <= 2


def test_no_batch_is_no_answer(teacher: Teacher) -> None:
    assert answers(teacher, iter([]), Budget()) == (Counter(), [])


def test_a_pickled_teacher_asks_under_the_same_keys(teacher: Teacher, tmp_path: Path) -> None:
    copies = (pickle.loads(pickle.dumps(teacher)), teacher.kept_in(tmp_path))
    for copy in copies:
        assert fingerprint(copy) == fingerprint(teacher)
        assert asked(copy, "keys") == asked(teacher, "keys")


@pytest.mark.parametrize("name", NEEDING)
def test_a_teacher_whose_package_is_missing_names_the_extra(name: str) -> None:
    module = example_of(name)
    if importlib.util.find_spec(module.EXTRA):
        return  # The package is here, and the teacher is tested in the environment of `make`.
    with (
        pytest.raises(MissingExtra, match=rf"omr-data\[{module.EXTRA}\]"),
        module.without_extra().open(1, no_image, Budget()),
    ):
        pass


def test_a_teacher_without_an_example_is_refused_with_words_that_say_what_to_add() -> None:
    with pytest.raises(AssertionError, match=r"Add tests/contracts/teachers/lately\.py with"):
        example_of("lately")


def test_a_new_file_with_a_teacher_is_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = types.ModuleType("fresh_teachers")
    package.__path__ = [str(tmp_path)]
    (tmp_path / "lately.py").write_text(
        "from omr_data.teachers import echo\nclass Teacher(echo.Teacher):\n    pass\n"
    )
    (tmp_path / "helper.py").write_text("from omr_data.teachers.echo import Teacher\n")
    monkeypatch.setitem(sys.modules, "fresh_teachers", package)
    assert teacher_modules(package) == ["lately"]
