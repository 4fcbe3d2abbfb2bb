"""Checks of matrices and of the arrays beside them: encodings, raw counts, embeddings, places on a slide."""

import re
from collections.abc import Iterator, Mapping

from cytolabe.validate.delivered import ArrayFacts
from cytolabe.validate.schema import Found, Look, Rule

__all__ = ["ARRAY_CHECKS", "distinct_cells", "embeddings", "encodings", "raw_counts", "same_cells", "slides"]

_KEY = re.compile(r"[a-zA-Z][a-zA-Z0-9_.-]*\Z")


# --- matrices -----------------------------------------------------------------------------------------------------


def encodings(rule: Rule, look: Look) -> Iterator[Found]:
    """Sparse matrices are CSR, and a matrix of mostly zeros is sparse."""
    for place, matrix in look.delivered.matrices.items():
        if matrix.encoding not in {"csr", "dense"}:
            unread = "" if matrix.is_read else " Its values were not looked at: validate again when they are converted."
            yield Found(code="E-SPARSE-01", where=place, values={"encoding": matrix.encoding, "unread": unread})
        elif matrix.encoding == "dense" and matrix.zero_fraction > rule.number("zeros_above"):
            n_values = matrix.shape[0] * matrix.shape[1]
            values = {"share": f"{matrix.zero_fraction:.1%}"}
            yield Found(
                code="E-SPARSE-02", where=place, n_affected=n_values - matrix.n_nonzero, n_total=n_values, values=values
            )


def same_cells(_: Rule, look: Look) -> Iterator[Found]:
    """Every matrix has the cells and features of its tables."""
    delivered = look.delivered
    for place, matrix in delivered.matrices.items():
        features = delivered.raw_var if place == "raw.X" and delivered.raw_var is not None else delivered.var
        expected = (delivered.obs.n_rows, features.n_rows)
        if len(matrix.shape) == 2 and matrix.shape != expected:
            values = {
                "found": f"{matrix.shape[0]:,} x {matrix.shape[1]:,}",
                "expected": f"{expected[0]:,} x {expected[1]:,}",
            }
            yield Found(code="E-RAW-07", where=place, values=values)


def raw_counts(rule: Rule, look: Look) -> Iterator[Found]:
    """Where an assay counts RNA, the raw matrix holds whole numbers above 0, as float32, and no cell is empty."""
    if not _counts_rna(rule, look):
        return
    place = look.delivered.raw_place
    matrix = look.delivered.matrices[place]
    if matrix.dtype != "float32":
        yield Found(code="E-RAW-01", where=place, values={"dtype": matrix.dtype})
    if not matrix.is_read:
        return
    if matrix.n_invalid:
        code = "E-RAW-02" if place == "raw.X" else "E-RAW-03"
        if _counts_lie_in_x(look):
            code = "E-RAW-04"
        yield Found(
            code=code,
            where=place,
            n_affected=matrix.n_invalid,
            n_total=matrix.n_nonzero,
            examples=matrix.invalid_examples,
        )
    if matrix.n_empty and not _is_slide(look):
        yield Found(
            code="E-RAW-05",
            where=place,
            n_affected=matrix.n_empty,
            n_total=matrix.n_cells,
            examples=matrix.empty_examples,
        )
    if place == "X" and not matrix.n_invalid:
        yield Found(code="W-RAW-08", where="X", n_affected=matrix.n_cells, n_total=matrix.n_cells)


def _counts_lie_in_x(look: Look) -> bool:
    """Whether X holds counts and raw.X does not: the two were swapped."""
    raw = look.delivered.matrices.get("raw.X")
    return raw is not None and look.delivered.matrices["X"].is_counts and not raw.is_counts


def _counts_rna(rule: Rule, look: Look) -> bool:
    """Whether any cell has an assay of RNA; every cell counts where no assay is said to be of something else."""
    column = "assay_ontology_term_id"
    if column not in look.delivered.obs.columns:
        return True
    assays = [level for (level,) in look.delivered.obs.count((column,)) if level is not None]
    both = rule.words("under_both")
    if any(all(look.descends(assay, [above]) for above in both) for assay in assays):
        return True
    return not any(look.descends(assay, rule.words("not_under")) for assay in assays)


def distinct_cells(_: Rule, look: Look) -> Iterator[Found]:
    """No two cells have the same values in all features of the raw matrix."""
    place = look.delivered.raw_place
    matrix = look.delivered.matrices[place]
    if matrix.n_repeated and not _is_slide(look):
        yield Found(
            code="E-RAW-06",
            where=place,
            n_affected=matrix.n_repeated,
            n_total=matrix.n_cells,
            examples=matrix.repeated_examples,
        )


# --- embeddings ---------------------------------------------------------------------------------------------------


def embeddings(rule: Rule, look: Look) -> Iterator[Found]:
    """At least one embedding, each with a row per cell, two columns, and numbers."""
    arrays = look.delivered.arrays.get("obsm", {})
    prefix = rule.word("prefix")
    if not any(name.startswith(prefix) for name in arrays) and not _is_spatial(rule, look):
        yield Found(code="E-OBSM-01", where="obsm", n_affected=1, n_total=1, examples=tuple(arrays)[:5])
    for name, array in arrays.items():
        yield from _embedding(name, array, prefix, look=look)
    is_single = _is_single(look)
    if is_single and "spatial" not in arrays:
        yield Found(code="E-SPATIAL-01", where="obsm['spatial']", values={"problem": "uns['spatial']['is_single'] is true, and places are absent"})  # fmt: skip
    if is_single is None and "spatial" in arrays:
        yield Found(code="E-SPATIAL-01", where="obsm['spatial']", values={"problem": "there are places, but uns['spatial']['is_single'] is not said"})  # fmt: skip


def _embedding(name: str, array: ArrayFacts, prefix: str, *, look: Look) -> Iterator[Found]:
    where = f"obsm[{name!r}]"
    is_main = name.startswith(prefix) or name.lower() == "spatial"
    if name.lower() == "x_spatial" or _KEY.match(name.removeprefix(prefix)) is None:
        yield Found(code="E-OBSM-02", where=where)
    elif not is_main:
        yield Found(code="W-OBSM-05", where=where)
    if array.encoding != "array":
        yield Found(code="E-OBSM-03", where=where, values={"problem": f"it is no array ({array.encoding})"})
        return
    for problem in _problems_of_shape(array, is_main, look):
        yield Found(code="E-OBSM-03", where=where, values={"problem": problem})
    for problem in _problems_of_values(name, array):
        yield Found(code="E-OBSM-04" if is_main else "W-OBSM-06", where=where, values={"problem": problem})


def _problems_of_shape(array: ArrayFacts, is_main: bool, look: Look) -> Iterator[str]:  # noqa: FBT001 - private
    n_cells = look.delivered.obs.n_rows
    if len(array.shape) < 2:
        yield f"it has {len(array.shape)} axis instead of two"
    elif array.shape[0] != n_cells:
        yield f"it has {array.shape[0]:,} rows for {n_cells:,} cells"
    elif array.shape[1] < (2 if is_main else 1):
        yield f"it has {array.shape[1]} columns"


def _problems_of_values(name: str, array: ArrayFacts) -> Iterator[str]:
    if not array.dtype.startswith(("float", "int", "uint")):
        yield f"its values are no numbers ({array.dtype})"
    elif array.n_infinite:
        yield f"{array.n_infinite:,} of {array.size:,} values are infinite"
    elif array.size and (array.n_missing == array.size or (name == "spatial" and array.n_missing)):
        yield f"{array.n_missing:,} of {array.size:,} values are missing"


# --- slides -------------------------------------------------------------------------------------------------------


def slides(rule: Rule, look: Look) -> Iterator[Found]:
    """Look at what a spatial assay brings along, and what no other assay may."""
    for where, problem in _problems_of_slides(rule, look):
        yield Found(code="E-SPATIAL-01", where=where, values={"problem": problem})


def _problems_of_slides(rule: Rule, look: Look) -> Iterator[tuple[str, str]]:
    assay = "assay_ontology_term_id"
    spatial = look.delivered.uns.get("spatial")
    columns = look.delivered.obs.columns
    is_spatial = _is_spatial(rule, look)
    if assay not in columns:
        return
    levels = [level for (level,) in look.delivered.obs.count((assay,))]
    for term in rule.words("generic"):
        if term in levels:
            yield f"obs[{assay!r}]", f"{term} is the general term; the slide that was used has its own"
    if spatial is not None and not is_spatial:
        yield "uns['spatial']", "it is there, but no assay of the file is spatial"
    elif is_spatial:
        yield from _problems_of_spatial(spatial, levels, look)
    is_visium = any(look.descends(level or "", rule.words("visium")) for level in levels)
    is_whole_slide = is_visium and _is_single(look) is True
    for name in rule.words("positions"):
        if name in columns and not is_whole_slide:
            yield f"obs[{name!r}]", "only Visium with uns['spatial']['is_single'] true has it"
        elif is_whole_slide and name not in columns:
            yield f"obs[{name!r}]", "Visium with uns['spatial']['is_single'] true needs it"
        elif is_whole_slide and columns[name].kind != "integer":
            yield f"obs[{name!r}]", f"it holds {columns[name].kind} instead of integers"


def _problems_of_spatial(spatial: object, levels: list[str | None], look: Look) -> Iterator[tuple[str, str]]:
    if len(set(levels)) > 1:
        yield "obs['assay_ontology_term_id']", "a spatial file has one assay"
    if not isinstance(spatial, Mapping):
        yield "uns['spatial']", "a spatial assay needs it"
    elif "is_single" not in spatial:
        yield "uns['spatial']", "it has no is_single"
    elif not isinstance(spatial["is_single"], bool):
        yield "uns['spatial']", "is_single is neither true nor false"
    elif not spatial["is_single"]:
        primary = look.delivered.obs.columns.get("is_primary_data")
        if primary is not None and any(level == "True" for (level,) in look.delivered.obs.count(("is_primary_data",))):
            yield "obs['is_primary_data']", "it has to be false where uns['spatial']['is_single'] is false"


def _is_spatial(rule: Rule, look: Look) -> bool:
    assay = "assay_ontology_term_id"
    if assay not in look.delivered.obs.columns:
        return False
    levels = [level or "" for (level,) in look.delivered.obs.count((assay,))]
    return any(look.descends(level, rule.words("spatial")) for level in levels)


def _is_single(look: Look) -> bool | None:
    spatial = look.delivered.uns.get("spatial")
    value = spatial.get("is_single") if isinstance(spatial, Mapping) else None
    return value if isinstance(value, bool) else None


def _is_slide(look: Look) -> bool:
    """Whether the file is a whole slide, in which spots outside of the tissue are empty."""
    return _is_single(look) is True and "in_tissue" in look.delivered.obs.columns


ARRAY_CHECKS = {
    "encodings": encodings,
    "same_cells": same_cells,
    "raw_counts": raw_counts,
    "distinct_cells": distinct_cells,
    "embeddings": embeddings,
    "slides": slides,
}
