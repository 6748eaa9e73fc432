"""Records are values, and a table holds them without loss."""

from omr_data.records import RIGHT, ImageRef, Message, Verdict, from_table, schema, to_table
from tests.builders import record, response


def test_a_record_survives_the_arrow_table_unchanged() -> None:
    verdict = Verdict(RIGHT, "numeric", 1, "7", "both are 7")
    full = record(
        images=(ImageRef("ab" * 32, 8, 6, "PNG"),),
        options=("7", "8"),
        prompt=(Message("user", "What is 3 + 4?"),),
        responses=(response(verdict=verdict), response(attempt=1, reasoning="hm")),
        pass_rate=0.5,
        meta={"kind": "sum", "a": "b"},
    )
    bare = record("demo/2")
    assert from_table(to_table([full, bare])) == [full, bare]


def test_the_schema_is_the_same_with_and_without_rows() -> None:
    assert to_table([]).schema == schema() == to_table([record()]).schema
