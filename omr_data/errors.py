"""Every error that this package raises on purpose.

A message says what happened, where, why, and what to do next. Nothing else is raised deliberately:
a bare `ValueError` from this package is a bug.

    OmrError
    ├── RecipeError            a recipe cannot be planned as it is written
    │   ├── IdentityError      a value without a stable identity (a lambda, an open file, a list)
    │   └── UnpinnedError      a Hub source without a commit
    ├── SourceError            a dataset cannot be read as declared (missing mirror, file, column)
    │   └── BadRow             one row cannot become a Record; the engine counts it as dropped
    ├── StepError              a step failed on a record, which is a fault in the step
    ├── StoreError             bytes on disk cannot be written or do not match their record
    ├── WorkerError            a worker process was killed
    ├── TeacherError           the teacher cannot answer at all
    │   └── IncompleteError    some attempts failed and may succeed later; all answers are kept
    ├── VerifyError            the verifiers are set up in a way that cannot work
    ├── ReleaseError           the result cannot be released as asked
    │   └── DriftError         the version exists and was made from another plan
    ├── TrainError             a model cannot be trained or measured as asked
    │   └── CollapseError      training diverged and was stopped
    └── MissingExtra           an optional part of the package is not installed

The command line catches OmrError, prints its message without a traceback and exits with 1.
"""


# Kinds are told apart by what a caller does next, and not by the module that raises them: a recipe
# is rewritten, a dataset looked for, a command run again.


class OmrError(Exception):
    """Base of all errors of this package."""


class RecipeError(OmrError):
    """A recipe cannot be planned as it is written."""


class IdentityError(RecipeError):
    """A step holds a value that has no stable identity."""


class UnpinnedError(RecipeError):
    """A Hub source declares no commit and no mirror stands in for it."""


class SourceError(OmrError):
    """A dataset cannot be read as declared."""


class BadRow(SourceError):
    """One raw row cannot become a Record.

    Attributes:
        reason: A few words, which the ledger counts. Equal reasons are counted together, so values
            of the row do not belong here.
        detail: What was wrong with this row. It is stored beside the dropped row.
    """

    def __init__(self, reason: str, detail: str = "") -> None:
        message = reason
        if detail:
            message = f"{reason}: {detail}"
        super().__init__(message)
        self.reason = reason
        self.detail = detail

    def __reduce__(self) -> tuple[type["BadRow"], tuple[str, str]]:
        # Worker processes send this error back. Pickle would call __init__ with the whole message,
        # which would become the reason.
        return type(self), (self.reason, self.detail)


# A fault in a step ends the build: dropping the record would hide the fault in a count.
class StepError(OmrError):
    """A step failed on a record: a fault in the step, not in the data."""


class StoreError(OmrError):
    """Bytes on disk cannot be written, or are not what their record says."""


class WorkerError(OmrError):
    """A worker process was killed. Finished shards are kept."""


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
    """Training diverged and was stopped. The checkpoints before it are kept."""


class MissingExtra(OmrError):
    """An optional part of the package is needed and not installed.

    Attributes:
        module: The module that could not be imported.
        extra: The extra of this package that installs it.
    """

    # Two arguments and not a message, so that every module names the command to run in one way.
    def __init__(self, module: str, extra: str) -> None:
        super().__init__(
            f"{module} is not installed. It comes with the extra '{extra}': "
            f"pip install 'omr-data[{extra}]'"
        )
        self.module = module
        self.extra = extra

    def __reduce__(self) -> tuple[type["MissingExtra"], tuple[str, str]]:
        # As for BadRow: the arguments, not the message, make the error again after pickling.
        return type(self), (self.module, self.extra)
