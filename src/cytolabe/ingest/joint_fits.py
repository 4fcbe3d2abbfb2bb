"""What a delivered file holds that was fitted on its cells together: genes chosen, components, graphs, corrections.

Whoever holds out a part of such a file holds out cells that these steps have seen. They are recognized by the names that
tools give them, without reading an array: so a step that another name hides is not seen, and no finding is no proof.
Measurements beside the counts (coordinates on a slide, proteins) are no fits.
"""

import re
from collections.abc import Sequence

from cytolabe.records import Finding, Severity

__all__ = ["joint_fits", "joint_fits_finding"]

_MEASURED = re.compile(r"(x_)?(spatial.*|coord(s|inates)?|.*(protein|antibod|adt|hto|counts).*)", re.IGNORECASE)
_FITTED = {
    "uns": re.compile(
        r"pca|neighbors|umap|tsne|draw_graph|diffmap.*|paga|leiden.*|louvain.*|hvg|harmony.*|dendrogram_.*|rank_genes_groups.*|_scvi.*",
        re.IGNORECASE,
    ),
    "layers": re.compile(
        r".*(scaled?|z_?scores?|imputed|denoised|smooth(ed)?|magic|corrected|combat|harmon.*|regress.*|scvi.*|ambient.*|pearson.*|sct)",
        re.IGNORECASE,
    ),
    "var": re.compile(
        r"highly_variable.*|(vst|dispersions?|variances?|residual_variances)(_norm|_normalized)?", re.IGNORECASE
    ),
}  # fmt: skip
"""Names of fits, by the part of the file; everything in `obsp` and `varp` is one, and in `obsm` and `varm` what is no measurement."""
_EXAMPLES = 5


def joint_fits(part: str, names: Sequence[str]) -> tuple[str, ...]:
    """Return which names of one part of a file (`obsm`, `obsp`, `varm`, `varp`, `layers`, `uns`, `var`) are fits."""
    if part in {"obsp", "varp"}:
        found = list(names)
    elif part in {"obsm", "varm"}:
        found = [name for name in names if _MEASURED.fullmatch(name) is None]
    else:
        known = _FITTED.get(part)
        found = [name for name in names if known is not None and known.fullmatch(name) is not None]
    return tuple(f"{part}/{name}" for name in sorted(found))


def joint_fits_finding(found: Sequence[str], where: str, *, n_cells: int) -> tuple[Finding, ...]:
    """Say that these elements were fitted on all cells of the file; nothing where there are none."""
    if not found:
        return ()
    return (
        Finding(
            code="N-H5AD-03",
            severity=Severity.NOTE,
            where=where,
            n_affected=len(found),
            n_total=len(found),
            examples=tuple(found[:_EXAMPLES]),
            message=f"{len(found)} element(s) have the names of steps that are fitted on all cells of a file ({', '.join(found[:_EXAMPLES])}): "
            f"here {n_cells:,}, whichever of them are held out later. The atlas takes no embedding, graph or choice of genes of a file"
            + ("; genes that were left out by such a choice cannot come back" if _chose_genes(found) else ""),
            remedy="score no embedding of this file on a part of it (as a precomputed model, say): fit on the training cells. "
            "Where genes were chosen, deliver all of them.",
            rule="R13",
        ),
    )


def _chose_genes(found: Sequence[str]) -> bool:
    return any(name.startswith("var/highly_variable") for name in found)
