"""From a kind of match to a confidence, and from a confidence to a decision.

**What the confidence says.** The probability, in thousandths, that an expert's term lies on the same lineage as the
mapped one: equal, above or below. Equality itself is not used as the measure, because experts do not agree on it:
of labels that several labs mapped, 40 % have more than one CL term, and most of those differ only in depth.

**Where the numbers come from.** Counted per kind of match on public tables of contributor label to CL term (4,663
rows of five source families, none of them shipped) with CL v2026-03-26. Accepted: 57 % of the rows, of which 95.8 % are
on the right lineage and 70.7 % equal the expert's term; in the worst family 92.5 % and 37.9 %. The expected
calibration error of rates counted on four families and used on the fifth is 0.06. Families copy from each other in part, so this
is an upper bound on what a new laboratory will see.

**What is held back.** Where the words match and are rarely meant so (`Candidate.doubtful`, `evidence.LINEAGE_OPEN`) the
confidence is cut to 700, whatever the kind. These words are a curated list and a rule; they are too few in the tables for
a rate of their own.

**Decisions.** `auto` from `ACCEPT` on, `review` from `REVIEW` on, else abstain: a mapping that is more often wrong than
right costs a reviewer more than an empty cell. The thresholds are frozen; change them only with the curve.
"""

from collections.abc import Mapping

from cytolabe.reconcile.candidates import Candidate

__all__ = ["ACCEPT", "CURVE", "REVIEW", "confidence_of", "decision_of"]

ACCEPT = 900
"""Least confidence (thousandths) that is accepted without a person."""

REVIEW = 500
"""Least confidence that is worth a person's look; below it the mapper abstains."""

CURVE: Mapping[str, tuple[tuple[float, int], ...]] = {
    "scoped_seed": ((0.0, 955),),
    "name": ((0.0, 700), (1.0, 950)),
    "synonym": ((0.0, 700), (1.0, 925)),
    "seed": ((0.0, 980),),
    "stripped": ((0.0, 700), (1.0, 920)),
    "composite": ((0.0, 950),),
    "partial": ((0.0, 170), (0.2, 750), (0.4, 850)),
    "similar": ((0.0, 0), (0.2, 80), (0.4, 370), (0.6, 690)),
}
"""Kind of match -> steps (least similarity, confidence in thousandths). `name` under 1 is shared by several terms."""


def confidence_of(candidate: Candidate) -> int:
    """Return the calibrated confidence of a candidate in thousandths, in [0, 1000]."""
    return max(value for least, value in CURVE[candidate.kind] if candidate.similarity >= least)


def decision_of(confidence: int) -> str:
    """Return `auto`, `review` or `abstained` for a confidence in thousandths."""
    if confidence >= ACCEPT:
        return "auto"
    return "review" if confidence >= REVIEW else "abstained"
