"""How simulated donors are written: files that say of themselves that they are simulated, and the truth beside them.

One h5ad per site, whose cells are named `simulated_...`, whose column `label_source` says "simulated" (from which the
origin of its labels is read, whatever a manifest says), and whose title and `uns["simulated"]` say so as well. Beside
them `manifest.toml`, `truth.json`, `truth_cells.csv`, and `true_profiles.parquet`: the most probable type of each cell to who
knows the types' true profiles and no donor, as predictions that a study can hold its models against. No stage may read the truth.
"""

import json
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import anndata
import numpy as np
import pandas as pd
from scipy.sparse import csr_matrix, vstack

from cytolabe.config.manifest import MANIFEST_NAME
from cytolabe.files import replace_file
from cytolabe.metrics import confusion_counts, confusion_f1, confusion_macro_f1
from cytolabe.provenance.canonical import jsonable
from cytolabe.store.tables import write_parquet
from cytolabe.testing.donors import DonorDesign, SimulatedCells, base_shares
from cytolabe.testing.type_profiles import TypeProfiles, sums_of_types

__all__ = ["ANSWERS", "TRUTH", "ProfileSource", "likeness", "write_donors"]

TRUTH, ANSWERS = "truth.json", "true_profiles.parquet"
_ORIGIN = "simulated"


@dataclass(frozen=True, kw_only=True)
class ProfileSource:
    """The real data set whose cells gave the profiles: its id, study, title, SHA-256 of its file, snapshot, and licence."""

    dataset_id: str
    study: str
    title: str
    source_digest: str
    snapshot_id: str
    licence: str = ""


def write_donors(
    directory: Path,
    sites: Sequence[SimulatedCells],
    *,
    profiles: TypeProfiles,
    design: DonorDesign,
    source: ProfileSource,
    unread: tuple[csr_matrix, np.ndarray],
) -> dict[str, object]:
    """Write everything into `directory` and return the truth as it stands in `truth.json`.

    Parameters
    ----------
    directory
        Made where it does not exist; files of the same names are replaced.
    sites
        What `simulate_donors` gave.
    profiles, design, source
        What it was made from.
    unread
        Counts and terms of real cells that the profiles were not read from; what was simulated is held against them.
    """
    directory.mkdir(parents=True, exist_ok=True)
    for site in sites:
        _write_site(directory / f"{site.site.dataset_id}.h5ad", site, profiles, design=design, source=source)
    replace_file(directory / MANIFEST_NAME, _manifest(sites, source).encode("utf-8"))
    cells = pd.concat([_truth_of_cells(site, profiles) for site in sites], ignore_index=True)
    replace_file(directory / "truth_cells.csv", cells.to_csv(index=False, lineterminator="\n").encode("utf-8"))
    write_parquet(cells[["cell_id", "profile_term"]].rename(columns={"profile_term": "term"}), directory / ANSWERS)
    truth: dict[str, object] = {
        "simulated": True,
        "profiles": {
            **vars(source),
            "n_cells_read": dict(zip(profiles.terms, profiles.n_cells, strict=True)),
            "left_out": dict(profiles.left_out),
            "n_genes": len(profiles.genes),
            "n_genes_that_differ": profiles.n_genes_that_differ,
        },
        "design": jsonable(design),
        "sites": {site.site.dataset_id: jsonable(site.site) for site in sites},
        "shares": dict(zip(profiles.terms, base_shares(profiles, design).tolist(), strict=True)),
        "compositions": {
            donor: dict(zip(profiles.terms, shares.tolist(), strict=True))
            for site in sites
            for donor, shares in sorted(site.compositions.items())
        },
        "profiles_known": _scored(cells, "profile_term", profiles),
        "likeness": likeness(sites, profiles, real=unread[0], terms=unread[1]),
    }
    text = json.dumps(truth, indent=1, sort_keys=True) + "\n"
    replace_file(directory / TRUTH, text.encode("utf-8"))
    return truth


def _scored(cells: pd.DataFrame, column: str, profiles: TypeProfiles) -> dict[str, object]:
    """Return macro-F1 and F1 by type of the answers in a column, over all simulated cells."""
    truth, told = (cells[name].to_numpy(dtype=object) for name in ("term", column))
    confusion = confusion_counts(truth, told, profiles.terms)
    present = np.flatnonzero(confusion.sum(axis=1))
    by_type = confusion_f1(confusion)
    return {
        "macro_f1": float(confusion_macro_f1(confusion, present.tolist())),
        "f1": {profiles.terms[place]: float(by_type[place]) for place in present},
        "n_cells": len(cells),
    }


def likeness(
    sites: Sequence[SimulatedCells], profiles: TypeProfiles, *, real: csr_matrix, terms: np.ndarray
) -> dict[str, dict[str, int | float]]:
    """Hold each type against real cells that were not read: term -> how alike they are.

    `r_simulated` is the correlation, over genes, of log(1 + counts per 10,000) of the summed simulated and real cells,
    `r_read` that of the real profile with the same cells: what half of the real cells says of the other half.
    `genes_simulated` and `genes_real` are the genes that a cell has a count of (median); of the simulated, cells of sites as deep as the real file.
    """
    counts = csr_matrix(vstack([site.counts for site in sites], format="csr"))
    types = np.concatenate([site.table["type"].to_numpy() for site in sites])
    n_genes = np.diff(counts.indptr)
    is_as_deep = np.concatenate([np.full(len(site.table), site.site.depth == 1.0) for site in sites])
    simulated = sums_of_types(counts, types, [str(place) for place in range(len(profiles.terms))])
    found: dict[str, dict[str, int | float]] = {}
    for k, term in enumerate(profiles.terms):
        here = terms.astype(str) == term
        if here.sum() < 2 or not (types == k).any():
            continue
        other = _log_profile(np.asarray(real[here].sum(axis=0), dtype=np.float64).ravel())
        found[term] = {
            "n_real": int(here.sum()),
            "n_simulated": int((types == k).sum()),
            "r_simulated": float(np.corrcoef(_log_profile(simulated[k]), other)[0, 1]),
            "r_read": float(np.corrcoef(_log_profile(profiles.shares[k]), other)[0, 1]),
            "genes_real": float(np.median(np.diff(csr_matrix(real[here]).indptr))),
        }
        as_deep = n_genes[is_as_deep & (types == k)]
        if len(as_deep):
            found[term]["genes_simulated"] = float(np.median(as_deep))
    return found


def _log_profile(sums: np.ndarray) -> np.ndarray:
    return np.asarray(np.log1p(1e4 * sums / sums.sum()))


def _write_site(
    path: Path, site: SimulatedCells, profiles: TypeProfiles, *, design: DonorDesign, source: ProfileSource
) -> None:
    terms = [profiles.terms[place] for place in site.table["type"]]
    obs = pd.DataFrame({
        "donor_id": site.table["donor_id"].to_numpy(dtype=object),
        "batch": site.table["batch"].to_numpy(dtype=object),
        "assay": site.site.assay,
        "cell_type": [profiles.names[place] for place in site.table["type"]],
        "cell_type_ontology_term_id": terms,
        "label_source": _ORIGIN,
    }, index=pd.Index(site.table["name"].astype(str).tolist()))  # fmt: skip
    file = anndata.AnnData(
        X=csr_matrix(site.counts, dtype=np.float32),
        obs=obs.astype(dict.fromkeys(obs.columns, "category")),
        var=pd.DataFrame(index=pd.Index(profiles.genes)),
    )
    file.uns["title"] = _title(site, source)
    file.uns["simulated"] = json.dumps({"design": jsonable(design), "profiles": vars(source)}, sort_keys=True)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # anndata's notes on future defaults; nothing here depends on them
        file.write_h5ad(path, compression="gzip")


def _title(site: SimulatedCells, source: ProfileSource) -> str:
    return f"SIMULATED donors ({site.site.dataset_id.removeprefix('simulated_')}) on profiles of {source.title}"


def _manifest(sites: Sequence[SimulatedCells], source: ProfileSource) -> str:
    lines = [
        f"# SIMULATED cells, on profiles of {source.dataset_id} ({source.source_digest}). No measurement of anything."
    ]
    for site in sites:
        said = {
            "file": f"{site.site.dataset_id}.h5ad", "title": _title(site, source), "study": site.site.dataset_id,
            "label": "cell_type", "label_origin": _ORIGIN, "donor": "donor_id", "batch": "batch", "tissue": "blood",
            "suspension_type": "cell", "organism": "Homo sapiens",
        }  # fmt: skip
        said |= {"licence": source.licence} if source.licence else {}
        lines += ["", "[[dataset]]", *(f"{key} = {json.dumps(value)}" for key, value in said.items())]
    return "\n".join(lines) + "\n"


def _truth_of_cells(site: SimulatedCells, profiles: TypeProfiles) -> pd.DataFrame:
    terms = np.array(profiles.terms, dtype=object)
    return pd.DataFrame({
        "cell_id": [f"{site.site.dataset_id}:{name}" for name in site.table["name"]],
        "donor_id": site.table["donor_id"].to_numpy(dtype=object),
        "batch": site.table["batch"].to_numpy(dtype=object),
        "term": terms[site.table["type"].to_numpy()],
        "profile_term": terms[site.table["profile_type"].to_numpy()],
        "blended_with": terms[site.table["partner"].to_numpy()],
        "blend": site.table["blend"].to_numpy().round(4),
        "depth": site.table["depth"].to_numpy().round(3),
    })  # fmt: skip
