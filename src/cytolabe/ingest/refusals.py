"""A refusal that carries its findings: the error stops the reader, the findings tell the contributor why.

Reading a matrix can fail in the middle of a stream, where nothing can be collected any more. The error then brings
its findings along, and `findings_of` gives every caller the same records that a check would have returned.
"""

import tarfile
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from cytolabe.errors import CytolabeError, UnreadableInputError
from cytolabe.records import Finding, Severity

__all__ = ["findings_of", "readable", "refusal"]

_KEY = "cytolabe_findings"


def refusal(kind: type[CytolabeError], findings: Sequence[Finding]) -> CytolabeError:
    """Return an error of `kind` whose text says all findings and which keeps them for `findings_of`."""
    error = kind(
        "\n".join(f"{finding.code} {finding.where}: {finding.message} {finding.remedy}" for finding in findings)
    )
    vars(error)[_KEY] = tuple(findings)
    return error


def findings_of(error: CytolabeError) -> tuple[Finding, ...]:
    """Return the findings that an error carries; an error without any becomes one finding with its text."""
    carried: tuple[Finding, ...] = vars(error).get(_KEY, ())
    if carried:
        return carried
    return (
        Finding(
            code="E-FILE-09",
            severity=Severity.ERROR,
            where="file",
            message=str(error),
            remedy="Look at the place named in the message, then give the file again.",
            rule="cytolabe/readable",
        ),
    )


@contextmanager
def readable(where: str) -> Iterator[None]:
    """Turn what a library says about damaged bytes into an `UnreadableInputError` with a finding.

    A flipped bit under a checksum or a chunk beyond the end of the file shows only when the bytes are read.
    """
    try:
        yield
    except (OSError, RuntimeError, KeyError, UnicodeDecodeError, EOFError, zlib.error, tarfile.TarError) as error:
        finding = Finding(
            code="E-FILE-10",
            severity=Severity.ERROR,
            where=where,
            n_affected=1,
            n_total=1,
            examples=(str(error).splitlines()[0][:200],),
            message=f"The bytes of {where} cannot be read: {str(error).splitlines()[0][:200]}.",
            remedy="Copy the file again from its source and compare the checksums; a damaged file is never used in part.",
            rule="cytolabe/readable",
        )
        raise refusal(UnreadableInputError, [finding]) from error
