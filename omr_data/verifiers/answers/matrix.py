"""Matrices and column vectors, also with a factor before them: 3(1; 4) is (3; 12)."""

import re
from dataclasses import dataclass

from omr_data.verifiers.answers.base import Answer, Parsed, Reader, Rules
from omr_data.verifiers.answers.tuples import Tuple
from omr_data.verifiers.base import Decision, too_close, wrong
from omr_data.verifiers.compare import compare_in_order
from omr_data.verifiers.scanner import ITEM

_MATRIX = re.compile(
    r"(?P<factor>[^\\\[(]*|\\frac\{\d+\}\{\d+\}|\\sqrt\{\d+\})\s*\*?\s*[\[(]?\s*"
    r"\\begin\{([pbB]?matrix|array|smallmatrix)\}(?:\s*\{[clr|\s]*\})?"
    r"(?P<body>.*)\\end\{\2\}\s*[\])]?",
    re.DOTALL,
)
_ROW = re.compile(r"\\\\(?:\s*\[[^\]]*\])?")
_LARGEST = 400


@dataclass(frozen=True, slots=True)
class Matrix(Answer):
    """Cells in rows and columns."""

    cells: tuple[Parsed, ...]
    """The readings of each cell, row by row."""
    columns: int
    """Cells in a row."""

    order = 12
    arity = "many"
    exclusive = True

    @classmethod
    def read(cls, text: str, parts: Reader) -> "Matrix | None":
        # The environment is required: brackets alone are tuples.
        if "\\begin" not in text:
            return None

        match = _MATRIX.fullmatch(text)
        if match is None:
            return None

        factor = match["factor"].strip(" *")
        rows = [row for row in _ROW.split(match["body"].replace(ITEM, " ")) if row.strip()]
        columns = {row.count("&") + 1 for row in rows}
        # Ragged rows are a slip of the pen, or a table that is not a matrix.
        if len(columns) != 1 or len(rows) * max(columns) > _LARGEST:
            return None

        cells: list[Parsed] = []

        for row in rows:
            for cell in row.split("&"):
                plain = cell.strip()
                if factor:
                    # The factor goes into every cell, so that 3(1; 4) and (3; 12) are one matrix.
                    plain = f"({'-1' if factor == '-' else factor})*({plain})"

                cells.append(parts(plain))

        if all(cells):
            return cls(tuple(cells), columns.pop())

        return None

    def compare(self, claim: Answer, rules: Rules) -> Decision | None:
        if isinstance(claim, Tuple):
            rows = [one[0] for one in claim.parts if isinstance(one[0], Tuple)]
            if len(rows) < len(claim.parts):
                # The components of a vector, written in a line.
                return self._compare_flat(list(claim.parts), list(self.cells), rules)

            # [[1, 2], [3, 4]] is how code and many models write a matrix.
            cells = [cell for row in rows for cell in row.parts]
            widths = {len(row.parts) for row in rows}
            if widths != {self.columns} or len(cells) != len(self.cells):
                return wrong("their sizes differ")

            return compare_in_order(cells, list(self.cells), rules)

        if not isinstance(claim, Matrix):
            return None
        if (len(claim.cells), claim.columns) != (len(self.cells), self.columns):
            return wrong("their sizes differ")

        return compare_in_order(list(claim.cells), list(self.cells), rules)

    def compare_as_claim(self, gold: Answer, rules: Rules) -> Decision | None:
        if not isinstance(gold, Tuple):
            return None

        return self._compare_flat(list(self.cells), list(gold.parts), rules)

    def _compare_flat(self, claim: list[Parsed], gold: list[Parsed], rules: Rules) -> Decision:
        """A vector may be written as a column or as a tuple; a matrix of rows may not."""
        decision = compare_in_order(claim, gold, rules)
        rows = len(self.cells) // self.columns
        if decision.outcome == "RIGHT" and 1 not in (rows, self.columns):
            return too_close("the same cells in another shape")

        return decision
