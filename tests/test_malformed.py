"""Malformed rows and files: each is a counted reason, or an error that names the mend."""

import gzip
import io
import json
import tarfile
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from omr_data.engine.shards import ReadPart, read_part
from omr_data.errors import SourceError
from omr_data.sources import files
from omr_data.sources.locator import LocalDatasets
from omr_data.store.images import ImageStore
from tests.builders import png

GOOD = {"question": "What is 3 + 4?", "answer": "7"}
COLUMNS = {
    "question": "question",
    "answer": "answer",
    "images": "image",
    "options": "options",
    "history": "history",
    "response": "response",
    "license": "license",
}
CHAT = {"messages": "messages", "images": "image"}


def dropped(folder: Path, columns: dict[str, Any] = COLUMNS, **arguments: Any) -> list[Any]:
    """Reads a folder as the engine does; returns what was dropped."""
    source = files.Source(folder, dataset="m", license="MIT", columns=columns, **arguments)
    found = source.download(LocalDatasets())
    store = ImageStore(folder.parent / "store")
    gone = []
    for part in source.parts(found):
        _, drops, count = read_part(ReadPart(source, "f", found, part, store))
        count.check("here")
        gone += drops
    return gone


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"question": None}, "no text in column 'question'"),
        ({"question": ""}, "column 'question' is empty"),
        ({"question": " \n\t"}, "column 'question' is empty"),
        ({"question": ["a", "b"]}, "no text in column 'question'"),
        ({"question": {"text": "a"}}, "no text in column 'question'"),
        ({"question": True}, "no text in column 'question'"),
        ({"question": "x" * 1_000_001}, "column 'question' is too long"),
        ({"question": "half \ud800 a pair"}, "column 'question' is not UTF-8"),
        ({"answer": None}, "no text in column 'answer'"),
        ({"answer": []}, "column 'answer' is empty"),
        ({"answer": ["7", None]}, "no text in column 'answer'"),
        ({"answer": float("nan")}, "column 'answer' is not a finite number"),
        ({"answer": float("inf")}, "column 'answer' is not a finite number"),
        ({"options": ["1", "1"]}, "two options are the same"),
        ({"options": ["1", 1.0]}, "two options are the same"),
        ({"options": ["a", None]}, "no text in column 'options'"),
        ({"options": [str(n) for n in range(27)]}, "more than 26 options"),
        ({"options": "left or right"}, "the options are a text without letters A, B, ..."),
        ({"options": "B. 1;C. 2"}, "the options are a text without letters A, B, ..."),
        ({"options": "['a', 'b'"}, "the options are a broken list"),
        ({"options": {"A": "1", "C": "2"}}, "the options are not lettered from A"),
        ({"options": 3}, "options of an unknown kind"),
        ({"image": "none.png"}, "image missing"),
        ({"image": "broken.png"}, "image broken"),
        ({"image": "../secret.png"}, "image path leaves the dataset"),
        ({"image": "/etc/passwd"}, "image path leaves the dataset"),
        ({"image": "file:///etc/passwd"}, "image path leaves the dataset"),
        ({"image": "a\\b.png"}, "image path leaves the dataset"),
        ({"image": "notes.txt"}, "the image path has no suffix of an image"),
        ({"image": "http://127.0.0.1:9/a.png"}, "the image is a web address"),
        ({"image": "data:image/png;base64,@@@"}, "the image is broken base64"),
        ({"image": "data:image/png;base64,aGVsbG8="}, "image broken"),
        ({"image": "[broken]"}, "the list of images is not JSON"),
        ({"image": 3}, "image cell of an unknown kind"),
        ({"image": {"width": 3}}, "image cell of an unknown kind"),
        ({"image": ["a.png", "a.png"], "question": "<image>?"}, "image marks do not match"),
        ({"question": "<image>Which?"}, "image marks do not match"),
        ({"image": "a.png", "question": "<image 2>Which?"}, "image marks do not match"),
        ({"image": "a.png", "question": "<image 1><image>?"}, "image marks do not match"),
        ({"options": ["<image>", "none"]}, "image marks do not match"),
        ({"history": "not a list"}, "no chat in column 'history'"),
        ({"history": [["only one"]]}, "a chat has a message of an unknown form"),
        ({"response": ["text", None]}, "no text in column 'response'"),
        ({"license": ["MIT"]}, "no text in column 'license'"),
    ],
)
def test_a_malformed_cell_is_a_counted_reason_with_file_and_line(
    tmp_path: Path, fields: dict[str, Any], reason: str
) -> None:
    folder = tmp_path / "rows"
    folder.mkdir()
    (tmp_path / "secret.png").write_bytes(png())
    (folder / "a.png").write_bytes(png())
    (folder / "broken.png").write_bytes(png()[:-30])
    lines = [json.dumps(GOOD), json.dumps(GOOD | fields), json.dumps(GOOD)]
    (folder / "rows.jsonl").write_text("\n".join(lines) + "\n")
    (drop,) = dropped(folder)
    assert drop.reason.startswith(reason)
    assert drop.detail.startswith("rows.jsonl, line 2: ")


@pytest.mark.parametrize(
    ("messages", "reason"),
    [
        (None, "no chat in column 'messages'"),
        ("plain text", "no chat in column 'messages'"),
        ([], "the chat in column 'messages' is empty"),
        ([{"role": "system", "content": "Be brief."}], "the chat in column 'messages' is empty"),
        ([{"role": "assistant", "content": "Hi"}], "the turns of a chat do not alternate"),
        ([{"role": "user", "content": "Hi"}] * 2, "the turns of a chat do not alternate"),
        ([{"role": "tool", "content": "Hi"}], "a chat has a role of an unknown kind"),
        ([{"role": "user", "content": None}], "no text in column 'messages'"),
        ([{"role": "user"}], "a chat has a message of an unknown form"),
        ([{"role": "user", "content": [{"type": "video"}]}], "a content part of an unknown kind"),
        ([{"role": "user", "content": [{"type": "image"}]}], "image marks do not match"),
    ],
)
def test_a_malformed_chat_is_a_counted_reason(tmp_path: Path, messages: Any, reason: str) -> None:
    folder = tmp_path / "rows"
    folder.mkdir()
    good = [{"role": "user", "content": "Hi"}]
    rows = [{"messages": good}, {"messages": messages}]
    (folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (drop,) = dropped(folder, CHAT)
    assert drop.reason.startswith(reason)


@pytest.mark.parametrize(
    ("line", "word"),
    [
        (b"{broken", "not JSON"),
        (b"[1]", "not a JSON object"),
        (b'"text"', "not a JSON object"),
        (b'{"question": "a", "answer": "b"} trailing', "not JSON"),
        (b'{"question": "\xff", "answer": "b"}', "not JSON"),
        (b"[" * 100_000, "not JSON"),
        (b'{"question": "a\x01b", "answer": "c"}', "not JSON"),
    ],
)
def test_a_line_that_is_not_an_object_is_dropped_alone(
    tmp_path: Path, line: bytes, word: str
) -> None:
    folder = tmp_path / "rows"
    folder.mkdir()
    good = json.dumps(GOOD).encode()
    (folder / "rows.jsonl").write_bytes(b"\n".join([good, b"", line, good]))
    (drop,) = dropped(folder)
    assert drop.reason == "the row cannot be read"
    assert drop.detail.startswith("rows.jsonl, line 3: ")
    assert word in drop.detail


ROWS = [GOOD] * 30
HEADER = "question,answer\n"


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.json", json.dumps(ROWS)[:-20], r"breaks off in row 29"),
        ("a.json", json.dumps(ROWS).replace("4?", '4"', 1), r"broken in row 0"),
        ("a.json", json.dumps({"data": ROWS}, indent=1), r"one JSON object with the keys data"),
        ("a.jsonl", json.dumps(GOOD) + "\nno JSON" * 20, r"20 of the first 21 rows"),
        ("a.jsonl", '{"problem": "a", "answer": "b"}\n', r"no column 'question'.*problem, answer"),
        ("a.csv", HEADER + '"never closed,7\n' * 3, r"never closed"),
        ("a.csv", "question,question\n1,2\n", r"two columns with the name 'question'"),
        ("a.csv", "question,,answer\n1,2,3\n", r"no names of columns"),
        ("a.csv", "problem;answer\n1;2\n", r"no column 'question'"),
        ("a.csv", "\ufeffquestion,answer".encode("utf-16"), r"UTF-16"),
        ("a.parquet", "not parquet", r"not a readable parquet file"),
        ("a.parquet", b"PAR1" + bytes(100), r"not a readable parquet file"),
        ("a.arrow", b"ARROW1" + bytes(100), r"not a readable arrow file"),
        ("a.zip", b"PK\x03\x04" + bytes(100), r"not a readable zip file"),
        ("a.jsonl.gz", gzip.compress(b"{}" * 9_000, mtime=0)[:-40], r"decompress"),
        ("a.parquet.gz", gzip.compress(b"PAR1" + bytes(100), mtime=0), r"parquet file inside gzip"),
        ("a.jsonl", b"\0\1\2\3" * 40, r"of no known kind"),
    ],
)
def test_a_file_that_cannot_be_read_on_is_one_error_that_names_the_mend(
    tmp_path: Path, name: str, content: str | bytes, message: str
) -> None:
    folder = tmp_path / "rows"
    folder.mkdir()
    data = content.encode() if isinstance(content, str) else content
    (folder / name).write_bytes(data)
    with pytest.raises(SourceError, match=message) as caught:
        dropped(folder)
    assert name in str(caught.value)


def test_rows_of_a_table_with_too_few_or_broken_cells_are_dropped_alone(tmp_path: Path) -> None:
    folder = tmp_path / "rows"
    folder.mkdir()
    table = HEADER.encode() + b'1,2\n3\n4,5,6\n\n"a"b,c\nbad \xff,7\n8,9\n'
    (folder / "a.csv").write_bytes(table)
    gone = dropped(folder, {"question": "question", "answer": "answer"})
    assert [drop.detail.partition(":")[0] for drop in gone] == [
        f"a.csv, row {number}" for number in (2, 3, 4, 5)
    ]
    assert gone[-1].reason == "column 'question' is not UTF-8"


@pytest.mark.parametrize("cut", [100, 700, 1_600])
def test_a_tar_that_is_cut_off_is_an_error(tmp_path: Path, cut: int) -> None:
    folder = tmp_path / "rows"
    folder.mkdir()
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for number in range(2):
            data = json.dumps(GOOD).encode()
            member = tarfile.TarInfo(f"{number}.json")
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    (folder / "a.tar").write_bytes(buffer.getvalue()[:cut])
    with pytest.raises(SourceError, match=r"a\.tar"):
        dropped(folder)


def test_two_files_whose_rows_would_share_ids_are_refused(tmp_path: Path) -> None:
    folder = tmp_path / "rows"
    folder.mkdir()
    (folder / "a.jsonl").write_text(json.dumps(GOOD))
    pq.write_table(pa.Table.from_pylist([GOOD]), folder / "a.parquet")
    with pytest.raises(SourceError, match="the same ids"):
        dropped(folder)


@pytest.mark.parametrize("suffix", ["", ".gz"])
@pytest.mark.parametrize("kind", ["jsonl", "json", "csv"])
def test_every_row_of_a_large_file_is_read_once_in_any_order_of_parts(
    tmp_path: Path, kind: str, suffix: str
) -> None:
    rows = [{"question": f"What is ü{n}?\n", "answer": str(n)} for n in range(2_500)]
    text = {
        "jsonl": "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows),
        "json": json.dumps(rows, ensure_ascii=False, indent=2),
        "csv": HEADER + "".join(f'"{row["question"]}",{row["answer"]}\n' for row in rows),
    }[kind].encode()
    data = gzip.compress(text, mtime=0) if suffix else text
    (tmp_path / f"a.{kind}{suffix}").write_bytes(data)
    source = files.Source(tmp_path / f"a.{kind}{suffix}", dataset="m", license="MIT")
    found = source.download(LocalDatasets())
    parts = source.parts(found)
    assert [(part.start, part.stop) for part in parts] == [(0, 1000), (1000, 2000), (2000, 2500)]
    for order in (parts, parts[::-1]):
        read = {part.start: [row["answer"] for row in source.rows(found, part)] for part in order}
        whole = [answer for part in parts for answer in read[part.start]]
        assert whole == [str(number) for number in range(2_500)]


def test_a_json_array_larger_than_a_chunk_is_read_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Chunks of 7 bytes end inside words, numbers and characters of several bytes."""
    monkeypatch.setattr("omr_data.sources.json_rows.CHUNK", 7)
    rows = [{"question": f"ü{n}€", "answer": [n, 1.5, None, "]"]} for n in range(9)]
    (tmp_path / "a.json").write_text(json.dumps(rows, ensure_ascii=False, indent=1))
    source = files.Source(tmp_path / "a.json", dataset="m", license="MIT")
    found = source.download(LocalDatasets())
    (part,) = source.parts(found)
    read = [{key: row[key] for key in GOOD} for row in source.rows(found, part)]
    assert read == rows


def test_parquet_parts_cut_across_row_groups(tmp_path: Path) -> None:
    data = {"question": [f"{n}?" for n in range(2_500)], "answer": list(range(2_500))}
    pq.write_table(pa.table(data), tmp_path / "a.parquet", row_group_size=700)
    source = files.Source(tmp_path / "a.parquet", dataset="mine", license="MIT")
    found = source.download(LocalDatasets())
    parts = source.parts(found)
    assert [(part.start, part.stop) for part in parts] == [(0, 1000), (1000, 2000), (2000, 2500)]
    for part in (parts[2], parts[0], parts[1]):
        assert [row["answer"] for row in source.rows(found, part)] == [
            *range(part.start, part.stop)
        ]


def test_columns_that_no_field_takes_are_named_once(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text(json.dumps(GOOD | {"topic": "sums", "level": 3}) + "\n")
    source = files.Source(tmp_path / "a.jsonl", dataset="mine", license="MIT")
    (note,) = source.notes(source.download(LocalDatasets()))
    assert "mine: no field takes the columns topic, level." in note


def test_a_field_that_columns_does_not_have_is_refused_with_the_nearest() -> None:
    with pytest.raises(SourceError, match="no field 'anwser'. Did you mean 'answer'"):
        files.Source("a", dataset="m", license="MIT", columns={"question": "q", "anwser": "a"})


def test_an_image_below_a_declared_root_may_be_absolute_and_changes_the_pin(tmp_path: Path) -> None:
    images, data = tmp_path / "images", tmp_path / "data"
    images.mkdir()
    data.mkdir()
    (images / "a.png").write_bytes(png("red"))
    row = GOOD | {"image": str(images / "a.png")}
    (data / "a.jsonl").write_text(json.dumps(row) + "\n")
    columns = {"question": "question", "answer": "answer", "images": "image"}
    source = files.Source(data, dataset="m", license="MIT", columns=columns, image_root=images)
    assert not dropped_by(source, tmp_path)
    before = source.resolve(LocalDatasets())
    (images / "a.png").write_bytes(png("blue"))
    assert source.resolve(LocalDatasets()) != before


def dropped_by(source: files.Source, work: Path) -> list[Any]:
    found = source.download(LocalDatasets())
    (part,) = source.parts(found)
    return read_part(ReadPart(source, "f", found, part, ImageStore(work / "store")))[1]
