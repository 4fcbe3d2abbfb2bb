"""What sex genes say of a donor: evidence that two donors are different, and never that they are one (rule R8).

They are read on the pseudobulk of a donor, never on cells: XIST falls out of most cells of a woman. A donor is called only
where one side outweighs the other by far and on enough molecules. Nothing is said of panels, pools, tumors and cell
lines: a panel may lack the genes, a pool holds both, and tumors and lines lose the Y chromosome or silence XIST.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass

from cytolabe.records import UNKNOWN

__all__ = ["MIN_GENES", "SEX_GENES", "SexEvidence", "sex_of", "why_not_read"]

SEX_GENES: Mapping[str, Mapping[str, tuple[str, ...]]] = {
    "Homo sapiens": {
        "x": ("ENSG00000229807",),
        "y": ("ENSG00000129824", "ENSG00000067048", "ENSG00000183878", "ENSG00000012817", "ENSG00000198692",
              "ENSG00000114374", "ENSG00000067646"),
    },
    "Mus musculus": {
        "x": ("ENSMUSG00000086503",),
        "y": ("ENSMUSG00000069045", "ENSMUSG00000069049", "ENSMUSG00000056673", "ENSMUSG00000068457"),
    },
}  # fmt: skip
"""XIST, and genes of the Y chromosome outside of the regions that it shares: RPS4Y1, DDX3Y, UTY, KDM5D, EIF1AY, USP9Y, ZFY."""

MIN_GENES = 5_000
"""Fewer measured genes are a panel (rule R3)."""

MIN_COUNTS = 20
MIN_RATIO = 10.0
_TUMOR = re.compile(
    r"tumou?r|cancer|carcinoma|leuk|lymphoma|sarcoma|melanoma|glioma|blastoma|myeloma|neoplas|malign", re.IGNORECASE
)
_LINE = re.compile(r"cell.?line|cell culture|cultured", re.IGNORECASE)


@dataclass(frozen=True, kw_only=True)
class SexEvidence:
    """Counts of the genes of one donor; `sex` is female, male or unknown, `why_not` says why nothing was read."""

    sex: str
    n_x: int = 0
    n_y: int = 0
    why_not: str = ""

    def sentence(self) -> str:
        """Return the evidence in words."""
        return self.why_not or f"{self.sex}: {self.n_x} counts of XIST, {self.n_y} of genes of the Y chromosome"


def sex_of(n_x: int, n_y: int, *, measures_x: bool, measures_y: bool) -> SexEvidence:
    """Call the sex of a donor from the counts of its pseudobulk.

    Parameters
    ----------
    n_x, n_y
        Counts of XIST, and of the genes of the Y chromosome.
    measures_x, measures_y
        Whether the data set measures any of them: unmeasured is not zero (rule R1).
    """
    if not (measures_x and measures_y):
        return SexEvidence(sex=UNKNOWN, why_not="the data set does not measure XIST and a gene of the Y chromosome")
    if n_x >= MIN_COUNTS and n_x >= MIN_RATIO * max(1, n_y):
        return SexEvidence(sex="female", n_x=n_x, n_y=n_y)
    if n_y >= MIN_COUNTS and n_y >= MIN_RATIO * max(1, n_x):
        return SexEvidence(sex="male", n_x=n_x, n_y=n_y)
    return SexEvidence(sex=UNKNOWN, n_x=n_x, n_y=n_y)


def why_not_read(*, n_genes: int, state: str, diseases: str, tissues: str) -> str:
    """Return why sex genes say nothing of a donor, or nothing where they may be read."""
    if n_genes < MIN_GENES:
        return f"panel: {n_genes} genes are measured"
    if state != "resolved":
        return f"{state}: not one known person"
    if _TUMOR.search(diseases):
        return f"tumor: {diseases}"
    return f"cell line: {tissues}" if _LINE.search(tissues) else ""
