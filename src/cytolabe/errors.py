"""Every deliberate exception of Cytolabe. `CytolabeError` carries the exit code that the command line returns.

CytolabeError
├── UsageError                     2  the call itself is wrong (unknown key, unknown model, missing option)
├── UnreadableInputError           3  nothing in the file could be read safely
│   ├── HostileInputError          3  the file reaches outside itself or declares more than it holds
│   └── UnreachableSourceError     3  a remote source did not answer, or its answer cannot be used
├── RefusedError                   1  readable, but it must not be used this way
│   ├── NotRawCountsError          1  no matrix of the file is proven to be raw counts
│   ├── UnknownGenesError          1  too little of the expression maps onto the gene reference
│   ├── UnresolvedColumnError      1  several columns could carry a role: a manifest has to say which
│   ├── UnresolvedLabelError       1  a contributor label has no term, or a reviewed mapping is malformed
│   ├── UnmeasuredGeneError        1  a gene was asked of a data set that never measured it
│   ├── UnseenLevelsError          1  training saw none of the technical levels of the query
│   ├── WithdrawnError             1  it holds cells of a person who withdrew, or who was purged
│   ├── LeakageError               1  something of the test side was seen in training
│   └── ConfoundedError            1  the contrast is not estimable from these data
├── ModelFailedError               1  a model stopped; its score is FAILED, never zero
├── WorkerDiedError                3  a process of this run was ended by the system, most often for want of memory
├── NotEnoughMemoryError           3  a step asked for more memory than there is
├── MissingExtraError              2  an optional dependency is not installed
├── IntegrityError                 4  bytes differ from the digest that names them
└── ConflictError                  5  somebody else published first

A message says what, where, how many, why it matters and what to do.
"""

from typing import ClassVar

__all__ = [
    "ConflictError",
    "ConfoundedError",
    "CytolabeError",
    "HostileInputError",
    "IntegrityError",
    "LeakageError",
    "MissingExtraError",
    "ModelFailedError",
    "NotEnoughMemoryError",
    "NotRawCountsError",
    "RefusedError",
    "UnknownGenesError",
    "UnmeasuredGeneError",
    "UnreachableSourceError",
    "UnreadableInputError",
    "UnresolvedColumnError",
    "UnresolvedLabelError",
    "UnseenLevelsError",
    "UsageError",
    "WithdrawnError",
    "WorkerDiedError",
]


class CytolabeError(Exception):
    """Root of every deliberate error."""

    exit_code: ClassVar[int] = 1


class UsageError(CytolabeError):
    """The call itself is wrong: an unknown key, model, column or option."""

    exit_code: ClassVar[int] = 2


class MissingExtraError(UsageError):
    """An optional dependency is not installed; the message names the extra."""


class UnreadableInputError(CytolabeError):
    """Nothing in the file could be read safely."""

    exit_code: ClassVar[int] = 3


class HostileInputError(UnreadableInputError):
    """The file reaches outside itself, or declares more than it can hold."""


class UnreachableSourceError(UnreadableInputError):
    """A remote source did not answer, or its answer cannot be used. `status` is the HTTP status, where there was one."""

    status: int | None = None


class RefusedError(CytolabeError):
    """Readable, but it must not be used this way."""


class NotRawCountsError(RefusedError):
    """No matrix of the file is proven to be raw counts."""


class UnknownGenesError(RefusedError):
    """Too little of the expression maps onto the gene reference."""


class UnresolvedColumnError(RefusedError):
    """Several columns could carry the same role; a manifest has to say which."""


class UnresolvedLabelError(RefusedError):
    """A contributor label has no term, or a reviewed mapping is malformed."""


class UnmeasuredGeneError(RefusedError):
    """A gene was asked of a data set that never measured it: unmeasured is not zero."""


class UnseenLevelsError(RefusedError):
    """Training saw none of the technical levels of the query: a floor of metadata says nothing there."""


class WithdrawnError(RefusedError):
    """It holds cells of a person who withdrew since, or did hold them before they were purged."""


class LeakageError(RefusedError):
    """Something of the test side was seen in training."""


class ConfoundedError(RefusedError):
    """The contrast is not estimable from these data."""


class ModelFailedError(CytolabeError):
    """A model stopped; its score is FAILED with the log, never zero."""


class WorkerDiedError(CytolabeError):
    """A process of this run was ended by the system, most often for want of memory; nothing of it was published."""

    exit_code: ClassVar[int] = 3


class NotEnoughMemoryError(CytolabeError):
    """A step asked for more memory than there is; the message names the step, the size and what makes it less."""

    exit_code: ClassVar[int] = 3


class IntegrityError(CytolabeError):
    """Bytes differ from the digest that names them, or an object is missing."""

    exit_code: ClassVar[int] = 4


class ConflictError(CytolabeError):
    """Somebody else published first; re-read and try again."""

    exit_code: ClassVar[int] = 5
