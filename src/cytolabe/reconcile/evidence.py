"""What the data set around a label says about it, beyond the label's own words.

Only words and structure count here. Expression never decides a label (rule R6b): a term chosen by expression would
make every score on that label circular.

* **Neighbors.** `CD14+ Mono` beside `FCGR3A+ Mono` are classical and non-classical monocytes, although CL's
  CD14-positive monocyte is above CD16-positive ones and not above the classical ones (rule R6).
* **Islet letters.** `A`, `B` and `D` in one data set are the cells of the islet, and `B` is no lymphocyte.
* **Lineage left open.** `memory T`, `helper T`, `cytotoxic T`, `regulatory T` have terms that lie under neither CD4
  nor CD8 alpha-beta T cell; what was sorted or clustered nearly always is one of the two. A person or the study says.
* **Parent.** A candidate on another lineage than the contributor's own coarser label is passed over.
"""

from collections.abc import Iterable, Mapping, Sequence

from cytolabe.ontology.graph import Ontology
from cytolabe.reconcile.candidates import Candidate, Lexicon
from cytolabe.reconcile.combine import ACCEPT, confidence_of
from cytolabe.reconcile.normalize import bag_of

__all__ = ["LINEAGE_OPEN", "OPEN_CONFIDENCE", "compatible_first", "confidence_in_context", "neighbor_terms"]

CLASSICAL_MONOCYTE = "CL:0000860"
NONCLASSICAL_MONOCYTE = "CL:0000875"
CD14_POSITIVE_MONOCYTE = "CL:0001054"

LINEAGE_OPEN: Mapping[str, str] = {
    "CL:0000813": "memory T cell",
    "CL:0000912": "helper T cell",
    "CL:0000910": "cytotoxic T cell",
    "CL:0000815": "regulatory T cell",
    CD14_POSITIVE_MONOCYTE: "CD14-positive monocyte",
}
"""Terms that a label names word by word and that are rarely what was meant; never accepted without a person."""

_ISLET = {"A": "CL:0000171", "B": "CL:0000169", "D": "CL:0000173"}
OPEN_CONFIDENCE = 700
"""What is held under the accept threshold for a person to look at."""
_MONOCYTE_WORDS = frozenset({"monocyte"})
_NEUTRAL = frozenset({"high", "hi", "low", "lo"})


def neighbor_terms(labels: Iterable[str], lexicon: Lexicon) -> Mapping[str, tuple[str, str]]:
    """Return labels of one data set whose neighbors decide them: label -> (term, reason).

    Today: CD14 and CD16 (FCGR3A) monocytes, where the data set has at least one of each; and the letters A, B and D, where
    no further letter makes them codes.
    """
    labels = list(labels)
    letters = {label: label.strip().upper() for label in labels if len(label.strip()) == 1}
    islet: Mapping[str, tuple[str, str]] = {}
    if set(_ISLET) <= set(letters.values()) <= {*_ISLET, *"EG"}:
        islet = {label: (_ISLET[letter], "A, B and D in one data set: cells of the islet") for label, letter
                 in letters.items() if letter in _ISLET}  # fmt: skip
    return {**islet, **_monocytes(labels, lexicon)}


def _monocytes(labels: Iterable[str], lexicon: Lexicon) -> Mapping[str, tuple[str, str]]:
    bags = {label: set(bag_of(lexicon.normalize(label))) - _NEUTRAL for label in labels}
    cd14 = sorted(label for label, bag in bags.items() if bag == _MONOCYTE_WORDS | {"cd14"})
    cd16 = sorted(label for label, bag in bags.items() if bag == _MONOCYTE_WORDS | {"cd16"})
    if not cd14 or not cd16:
        return {}
    return {
        **dict.fromkeys(cd14, (CLASSICAL_MONOCYTE, f"beside {cd16[0]!r}: the classical half of the monocytes")),
        **dict.fromkeys(cd16, (NONCLASSICAL_MONOCYTE, f"beside {cd14[0]!r}: the non-classical half")),
    }


def confidence_in_context(candidate: Candidate) -> int:
    """Return the confidence in thousandths, held under the accept threshold where lineage or meaning is left open."""
    confidence = confidence_of(candidate)
    is_open = candidate.doubtful or candidate.term in LINEAGE_OPEN
    return min(confidence, OPEN_CONFIDENCE) if is_open else confidence


def compatible_first(
    candidates: Sequence[Candidate], parent_term: str, *, ontology: Ontology
) -> tuple[Candidate, int, str]:
    """Return the best candidate given the parent's term, its confidence, and what the parent changed.

    A candidate on the parent's lineage wins over a better one that is not, if it is good enough by itself to be
    accepted. Otherwise the best one stays, under the accept threshold, and the contradiction is named.
    """
    best = candidates[0]
    if not parent_term or ontology.related(best.term, parent_term):
        return best, confidence_in_context(best), ""
    for other in candidates[1:]:
        if ontology.related(other.term, parent_term) and confidence_in_context(other) >= ACCEPT:
            return other, confidence_in_context(other), f"not {best.term}: off the lineage of the parent {parent_term}"
    contradiction = f"contradicts the parent label's term {parent_term} ({ontology.name(parent_term)})"
    return best, min(confidence_in_context(best), OPEN_CONFIDENCE), contradiction
