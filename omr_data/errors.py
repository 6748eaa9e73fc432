"""Every error this package raises on purpose.

A message says what happened, where, why, and what to do next. Nothing else is raised deliberately;
a bare `ValueError` from this package is a bug.

    OmrError
    ├── RecipeError            what the author wrote cannot be planned
    │   ├── IdentityError      a value without a stable identity (a lambda, an open file, a list)
    │   └── UnpinnedError      a Hub source without a commit
    ├── SourceError            a dataset cannot be read as declared (missing mirror, file, column)
    │   └── BadRow             one row cannot become a Record; the engine turns it into a counted drop
    ├── StepError              a step failed on a record, which is a fault in the step
    ├── StoreError             bytes on disk cannot be written or do not match their record
    ├── WorkerError            a worker process was killed
    ├── TeacherError           the teacher cannot answer at all
    │   └── IncompleteError    some attempts failed and may succeed later; what was answered is kept
    ├── VerifyError            the verifiers are set up in a way that cannot work
    ├── ReleaseError           the result cannot be released as asked
    │   └── DriftError         the version exists and was made from another plan
    ├── TrainError             a model cannot be trained or measured as asked
    │   └── CollapseError      training went wrong beyond repair, and was stopped
    └── MissingExtra           an optional part of the package is not installed
"""


class OmrError(Exception):
    """Base of all errors of this package."""


class RecipeError(OmrError):
    """What the author wrote cannot be planned."""


class IdentityError(RecipeError):
    """A step holds a value that has no stable identity."""


class UnpinnedError(RecipeError):
    """A Hub source declares no commit and no mirror stands in for it."""


class SourceError(OmrError):
    """A dataset cannot be read as declared."""


class BadRow(SourceError):
    """One raw row cannot become a Record.

    `reason` is a few words that are counted in the ledger; `detail` says what was wrong with this row.
    """

    def __init__(self, reason: str, detail: str = "") -> None:
        super().__init__(f"{reason}: {detail}" if detail else reason)
        self.reason = reason
        self.detail = detail

    def __reduce__(self) -> tuple[type["BadRow"], tuple[str, str]]:
        return type(self), (self.reason, self.detail)


class StepError(OmrError):
    """A step failed on a record: a fault in the step, not in the data."""


class StoreError(OmrError):
    """Bytes on disk cannot be written, or are not what their record says."""


class WorkerError(OmrError):
    """A worker process was killed. What was finished is kept."""


class TeacherError(OmrError):
    """The teacher cannot answer at all."""


class IncompleteError(TeacherError):
    """Some attempts failed and may succeed later. Everything that was answered is stored."""


class VerifyError(OmrError):
    """The verifiers are set up in a way that cannot work."""


class ReleaseError(OmrError):
    """The result cannot be released as asked."""


class DriftError(ReleaseError):
    """A released version exists and was made from another plan."""


class TrainError(OmrError):
    """A model cannot be trained or measured as asked."""


class CollapseError(TrainError):
    """Training went wrong beyond repair, and was stopped. The checkpoints before it are kept."""


class MissingExtra(OmrError):
    """An optional part of the package is needed and not installed."""

    def __init__(self, module: str, extra: str) -> None:
        super().__init__(
            f"{module} is not installed. It comes with the extra '{extra}': pip install 'omr-data[{extra}]'"
        )
        self.module = module
        self.extra = extra

    def __reduce__(self) -> tuple[type["MissingExtra"], tuple[str, str]]:
        return type(self), (self.module, self.extra)
