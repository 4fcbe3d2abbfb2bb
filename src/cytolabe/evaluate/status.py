"""May a number be believed? The status of a score is computed from reasons, and every reason is kept.

One refusal refuses: the number moves to `raw_value`, outside of every aggregate. Without a refusal one qualification
qualifies. A model without an answer has the status of its failure. No number is clipped, and none is left out.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from cytolabe.records import ScoreStatus

__all__ = ["Judgement", "judged"]


@dataclass(frozen=True, kw_only=True)
class Judgement:
    """A status with its reasons, joined for print."""

    status: ScoreStatus
    reason: str


def judged(refusals: Sequence[str], qualifications: Sequence[str]) -> Judgement:
    """Turn reasons into a status. Reasons keep their order; repeated ones and empty ones are dropped."""
    refused = [reason for reason in dict.fromkeys(refusals) if reason]
    if refused:
        return Judgement(status=ScoreStatus.REFUSED, reason="; ".join(refused))
    qualified = [reason for reason in dict.fromkeys(qualifications) if reason]
    if qualified:
        return Judgement(status=ScoreStatus.QUALIFIED, reason="; ".join(qualified))
    return Judgement(status=ScoreStatus.SCORED, reason="")
