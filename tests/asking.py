"""Asks questions through a teacher, as the engine does, for tests of teachers behind servers."""

import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from omr_data.operators.rollout import Sample
from omr_data.records import ImageRef, Record, Response
from omr_data.teacher import Budget, Failure, Request, Teacher
from omr_data.teachers import openai_api
from tests.builders import png, record
from tests.servers import FaultServer

PICTURE = png(size=(28, 28))
IMAGE = ImageRef("a" * 64, 28, 28, "PNG")

Answered = list[tuple[Request, list[Response | Failure]]]


def teacher(server: FaultServer, **changes: Any) -> openai_api.Teacher:
    """A teacher behind a fault server that gives up soon."""
    usual = {"model": "tiny", "max_tokens": 64, "urls": (server.url,), "outage": 5.0}
    return openai_api.Teacher(**usual | changes)


def question(number: int = 0, fault: str = "", times: int = 10**6, **given: Any) -> Record:
    """A record that no other call makes, whose question may tell the server what to do."""
    told = json.dumps({"fault": fault, "times": times}) if fault else ""
    text = f"Question {number} {time.monotonic_ns()} {told}"
    return record(id=f"q/{number}", question=text, answer="5", **given)


def ask(
    asked: Teacher, records: Sequence[Record], n: int = 2, budget: Budget | None = None
) -> Answered:
    """Everything that came back, by request in the order given. An unsent one has no results."""
    requests = [request for one in records for request in Sample(asked, n=n).requests(one)]
    found: dict[str, tuple[Request, list[Response | Failure]]] = {
        request.key: (request, []) for request in requests
    }
    with asked.open(1, lambda image: PICTURE, budget or Budget()) as session:
        for answers in session.answer(iter([requests])):
            for request, results in answers:
                found[request.key][1].extend(results)
    for _, results in found.values():
        results.sort(key=lambda result: result.attempt)
    return list(found.values())


def only(answers: Answered) -> list[Response | Failure]:
    """The results of the one question that was asked."""
    ((_, results),) = answers
    return results


def all_answered(answers: Answered) -> bool:
    """Whether every attempt of every question has an answer."""
    return all(
        {result.attempt for result in results if isinstance(result, Response)}
        == set(request.attempts)
        for request, results in answers
    )


def rows(folder: Path, faults: Sequence[dict[str, object]]) -> Path:
    """Writes a folder of rows with a question for each fault; an empty one is no fault."""
    folder.mkdir(exist_ok=True)
    lines = []
    for number, fault in enumerate(faults):
        text = f"Question {number} {json.dumps(fault) if fault else ''}"
        lines.append(json.dumps({"question": text, "answer": "5"}))
    (folder / "rows.jsonl").write_text("\n".join(lines) + "\n")
    return folder
