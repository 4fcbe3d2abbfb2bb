"""A finding about labels: the letter of its code is its severity, and it shows the first five examples."""

from collections.abc import Sequence

from cytolabe.records import Finding, Severity

__all__ = ["finding_of"]

_SEVERITIES = {"E": Severity.ERROR, "W": Severity.WARNING, "N": Severity.NOTE}


def finding_of(
    code: str, examples: Sequence[str], *, text: tuple[str, str], where: str, n_total: int, rule: str
) -> Finding:
    """Return the finding of `examples`, all of which count as affected; `text` is the message and the remedy."""
    message, remedy = text
    return Finding(
        code=code, severity=_SEVERITIES[code[0]], where=where, n_affected=len(examples), n_total=n_total,
        examples=tuple(examples[:5]), message=message, remedy=remedy, rule=rule,
    )  # fmt: skip
