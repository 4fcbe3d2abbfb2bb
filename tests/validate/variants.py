"""A small file that obeys CELLxGENE schema 7, and copies of it with one planted fault each.

Schema 6 has the same form. For schema 5 the organism moves to a column of cells after the fault was planted. The names
and what the official validators say of them are recorded in `verdicts-<schema>.json`, by `scripts/record_verdicts.py`;
a change here that changes a file has to be recorded anew.
"""

from collections.abc import Callable
from pathlib import Path

import anndata as ad
import numpy as np
import pandas as pd
from scipy.sparse import coo_matrix, csc_matrix, csr_matrix

N_CELLS = 24
GENES = (
    "ENSG00000167286", "ENSG00000198851", "ENSG00000010610", "ENSG00000153563", "ENSG00000172116", "ENSG00000126353",
    "ENSG00000156738", "ENSG00000177455", "ENSG00000090382", "ENSG00000101439", "ENSG00000105374", "ENSG00000115523",
    "ENSG00000163736", "ENSG00000075624", "ENSG00000166710", "ENSG00000087086", "ENSG00000156508", "ENSG00000111640",
    "ENSG00000198804", "ENSG00000198712", "ENSG00000198938", "ENSG00000198888", "ENSG00000229117", "ENSG00000142541",
)  # fmt: skip
TERMS = ("CL:0000236", "CL:0000084", "CL:0000576")
Edit = Callable[[ad.AnnData], ad.AnnData | None]


def valid_data() -> ad.AnnData:
    """Return an object that obeys the schema: three cell types of two donors, counts in raw, logarithms in X."""
    rng = np.random.default_rng(7)
    means = rng.gamma(0.6, 3.0, size=(len(TERMS), len(GENES)))
    labels = np.arange(N_CELLS) % len(TERMS)
    counts = rng.poisson(means[labels] * rng.uniform(0.5, 2.0, size=(N_CELLS, 1))).astype(np.float32)
    counts[:, 13] += 1  # no cell is empty
    counts[0, 1:] = np.maximum(counts[0, 1:], 1)  # no feature is empty
    counts[0, 13] = 5
    logged = np.log1p(counts / counts.sum(axis=1, keepdims=True) * 1e4).astype(np.float32)
    obs = pd.DataFrame(
        {
            "cell_type_ontology_term_id": [TERMS[label] for label in labels],
            "assay_ontology_term_id": "EFO:0009922",
            "disease_ontology_term_id": "PATO:0000461",
            "sex_ontology_term_id": np.where(np.arange(N_CELLS) % 2, "PATO:0000383", "PATO:0000384"),
            "tissue_ontology_term_id": "UBERON:0000178",
            "tissue_type": "tissue",
            "self_reported_ethnicity_ontology_term_id": "unknown",
            "development_stage_ontology_term_id": "HsapDv:0000258",
            "donor_id": np.where(np.arange(N_CELLS) % 2, "donor_1", "donor_2"),
            "suspension_type": "cell",
        },
        index=[f"cell_{number}" for number in range(N_CELLS)],
    ).astype("category")
    obs["is_primary_data"] = True
    var = pd.DataFrame({"feature_is_filtered": False}, index=list(GENES))
    data = ad.AnnData(X=csr_matrix(logged), obs=obs, var=var)
    data.raw = ad.AnnData(X=csr_matrix(counts), obs=obs, var=pd.DataFrame(index=list(GENES)))
    data.obsm["X_umap"] = rng.normal(size=(N_CELLS, 2))
    data.uns = {"title": "Simulated blood", "organism_ontology_term_id": "NCBITaxon:9606"}
    return data


# --- how a fault is planted ---------------------------------------------------------------------------------------


def with_column(name: str, values: object, *, category: bool = True) -> Edit:
    def edit(data: ad.AnnData) -> None:
        column = pd.Series(values, index=data.obs_names)
        data.obs[name] = column.astype("category") if category else column

    return edit


def with_some(name: str, value: str, n_cells: int = 4, **also: str) -> Edit:
    """Give the first cells another value in a column, and in others."""

    def edit(data: ad.AnnData) -> None:
        for column, new in {name: value, **also}.items():
            texts = data.obs[column].astype(str)
            texts.iloc[:n_cells] = new
            data.obs[column] = texts.astype("category")

    return edit


def without(*names: str) -> Edit:
    def edit(data: ad.AnnData) -> None:
        data.obs = data.obs.drop(columns=list(names))

    return edit


def with_uns(**values: object) -> Edit:
    def edit(data: ad.AnnData) -> None:
        data.uns.update(values)

    return edit


def without_uns(name: str) -> Edit:
    def edit(data: ad.AnnData) -> None:
        del data.uns[name]

    return edit


def all_of(*edits: Edit) -> Edit:
    def edit(data: ad.AnnData) -> None:
        for one in edits:
            one(data)

    return edit


def with_raw(change: Callable[[np.ndarray], object]) -> Edit:
    """Change the dense counts of raw."""

    def edit(data: ad.AnnData) -> None:
        counts = data.raw.X.toarray()
        changed = change(counts)
        data.raw = ad.AnnData(X=changed, obs=data.obs, var=data.raw.var)

    return edit


def with_x(change: Callable[[np.ndarray], object]) -> Edit:
    def edit(data: ad.AnnData) -> None:
        data.X = change(data.X.toarray())

    return edit


def with_genes(change: Callable[[list[str]], list[str]], *, raw: bool = True, main: bool = True) -> Edit:
    def edit(data: ad.AnnData) -> ad.AnnData:
        names = change(list(data.var_names))
        raw_var = data.raw.var.set_axis(names, axis=0) if raw else data.raw.var
        raw_data = ad.AnnData(X=data.raw.X, obs=data.obs, var=raw_var)
        changed = data.copy()
        changed.raw = None
        if main:
            changed.var_names = names
        changed.raw = raw_data
        return changed

    return edit


def without_raw(data: ad.AnnData) -> None:
    del data.raw


def only_counts(data: ad.AnnData) -> None:
    data.X = data.raw.X.copy()
    del data.raw


def swapped(data: ad.AnnData) -> None:
    counts, logged = data.raw.X.copy(), data.X.copy()
    data.raw = ad.AnnData(X=logged, obs=data.obs, var=data.raw.var)
    data.X = counts


def ceil_cp10k(counts: np.ndarray) -> csr_matrix:
    return csr_matrix(np.ceil(counts / counts.sum(axis=1, keepdims=True) * 1e4).astype(np.float32))


def as_cell_line(data: ad.AnnData, **columns: str) -> None:
    given = {
        "tissue_type": "cell line", "tissue_ontology_term_id": "CVCL_0004", "donor_id": "na",
        "sex_ontology_term_id": "na", "self_reported_ethnicity_ontology_term_id": "na",
        "development_stage_ontology_term_id": "na", "cell_type_ontology_term_id": "na", **columns,
    }  # fmt: skip
    for name, value in given.items():
        data.obs[name] = pd.Series(value, index=data.obs_names).astype("category")


def cell_line(**columns: str) -> Edit:
    return lambda data: as_cell_line(data, **columns)


def culture(term: str) -> Edit:
    return all_of(with_column("tissue_type", "primary cell culture"), with_column("tissue_ontology_term_id", term))


def doubled_cell(counts: np.ndarray) -> csr_matrix:
    counts[3] = counts[5]
    return csr_matrix(counts)


def empty_cell(counts: np.ndarray) -> csr_matrix:
    counts[3] = 0
    return csr_matrix(counts)


def halves(counts: np.ndarray) -> csr_matrix:
    counts[2, 13] += 0.5
    return csr_matrix(counts)


def negative(counts: np.ndarray) -> csr_matrix:
    counts[2, 13] = -1
    return csr_matrix(counts)


def with_obsm(name: str, value: object) -> Edit:
    def edit(data: ad.AnnData) -> None:
        data.obsm[name] = value

    return edit


def other_embedding(name: str) -> Edit:
    def edit(data: ad.AnnData) -> None:
        data.obsm[name] = data.obsm.pop("X_umap")

    return edit


def changed_embedding(change: Callable[[np.ndarray], np.ndarray]) -> Edit:
    def edit(data: ad.AnnData) -> None:
        data.obsm["X_umap"] = change(data.obsm["X_umap"].copy())

    return edit


def infinite(values: np.ndarray) -> np.ndarray:
    values[0, 0] = np.inf
    return values


def with_layer(matrix: Callable[[ad.AnnData], object]) -> Edit:
    def edit(data: ad.AnnData) -> None:
        data.layers["other"] = matrix(data)

    return edit


def with_flag(n_features: int) -> Edit:
    def edit(data: ad.AnnData) -> None:
        data.var["feature_is_filtered"] = np.arange(data.n_vars) < n_features

    return edit


def with_empty_category(data: ad.AnnData) -> None:
    data.obs["donor_id"] = data.obs["donor_id"].cat.add_categories(["donor_9"])


def duplicate_names(data: ad.AnnData) -> None:
    data.obs_names = ["cell_0", *data.obs_names[:-1]]


def with_missing(name: str) -> Edit:
    def edit(data: ad.AnnData) -> None:
        values = data.obs[name].copy()
        values.iloc[:3] = np.nan
        data.obs[name] = values

    return edit


def perturbed(*, ids: str = "g1", strategy: str = "CRISPR knockout screen", **entry: object) -> Edit:
    described = {
        "role": "targeting",
        "protospacer_sequence": "ACGTACGTACGTACGTACGT",
        "protospacer_adjacent_motif": "3' NGG",
    }
    given = {key: value for key, value in {**described, **entry}.items() if value is not None}
    return all_of(
        with_uns(genetic_perturbations={"g1": given, "g2": described}),
        with_perturbation(ids, strategy),
    )


def with_perturbation(ids: str, strategy: str) -> Edit:
    def edit(data: ad.AnnData) -> None:
        is_some = np.arange(data.n_obs) < 6
        data.obs["genetic_perturbation_id"] = pd.Categorical(np.where(is_some, ids, "na"))
        data.obs["genetic_perturbation_strategy"] = pd.Categorical(np.where(is_some, strategy, "no perturbations"))

    return edit


GENES_OF = {
    "NCBITaxon:7955": ("ENSDARG000000%05d", 6316, 6332, 6341, 6345, 6350, 6353, 6356, 6368, 6370, 6372, 6383, 6385,
                       6389, 6392, 6395, 6396, 6397, 6399, 6408, 6409, 6413, 6420, 6422, 6427),
    "NCBITaxon:7227": ("FBgn00%05d", 10053, 10078, 10097, 10100, 10105, 10109, 10113, 10114, 10173, 10194, 10197, 10198,
                       10213, 10215, 10217, 10220, 10222, 10223, 10225, 10226, 10228, 10235, 10238, 10240),
    "NCBITaxon:6239": ("WBGene000%05d", 1243, 1244, 1245, 1246, 1247, 1248, 1249, 1250, 1251, 1252, 1253, 1258,
                       1259, 1262, 1263, 1281, 1284, 1303, 1309, 1310, 1311, 1320, 1324, 1325),
    "NCBITaxon:10090": ("ENSMUSG000000%05d", 6435, 6442, 6445, 6456, 6457, 6462, 6463, 6464, 6469, 6471, 6476, 6488,
                        6490, 6494, 6498, 6517, 6519, 6522, 6526, 6527, 6529, 6538, 6542, 6546),
}  # fmt: skip
"""Organism -> the form of its ids, and the numbers of genes that the tables of all three validators have."""
FISH, FLY, WORM, MOUSE = GENES_OF


def organism(taxon: str, **columns: str) -> Edit:
    """Make the cells those of another organism: its genes, no stage, and other values where `columns` say so."""
    form, *numbers = GENES_OF[taxon]
    given = {
        "self_reported_ethnicity_ontology_term_id": "na", "development_stage_ontology_term_id": "unknown",
        "sex_ontology_term_id": "unknown", **columns,
    }  # fmt: skip

    def edit(data: ad.AnnData) -> ad.AnnData:
        named = with_genes(lambda _: [form % number for number in numbers])(data)
        assert named is not None
        named.uns["organism_ontology_term_id"] = taxon
        for name, value in given.items():
            named.obs[name] = pd.Series(value, index=named.obs_names).astype("category")
        return named

    return edit


def old_culture(term: str) -> Edit:
    """Name a culture as schemas 5 and 6 do."""
    return all_of(with_column("tissue_type", "cell culture"), with_column("tissue_ontology_term_id", term))


def culture_of(taxon: str, term: str, tissue_type: str) -> Edit:
    return organism(taxon, tissue_type=tissue_type, tissue_ontology_term_id=term)


def with_raw_columns(**columns: object) -> Edit:
    def edit(data: ad.AnnData) -> None:
        for name, value in columns.items():
            data.raw.var[name] = value

    return edit


def with_var_column(name: str, value: object) -> Edit:
    def edit(data: ad.AnnData) -> None:
        data.var[name] = value

    return edit


VARIANTS: dict[str, Edit] = {
    # nothing is wrong with these
    "valid": lambda _: None,
    "valid: counts alone, in X": only_counts,
    "valid: unknown cell types": with_some("cell_type_ontology_term_id", "unknown"),
    "valid: two diseases in order": with_some("disease_ontology_term_id", "MONDO:0005812 || MONDO:0100096"),
    "valid: an organoid": with_column("tissue_type", "organoid"),
    "valid: a culture": culture("CL:0000057"),
    "valid: a cell line": cell_line(),
    "valid: a cell line with types": cell_line(cell_type_ontology_term_id="CL:0000057"),
    "valid: nuclei": with_column("suspension_type", "nucleus"),
    "valid: colors": with_uns(donor_id_colors=np.array(["#aabbcc", "#001122"])),
    "valid: a batch condition": with_uns(batch_condition=np.array(["donor_id"])),
    "valid: a default embedding": with_uns(default_embedding="X_umap"),
    "valid: an ethnicity": with_column("self_reported_ethnicity_ontology_term_id", "HANCESTRO:0590"),
    "valid: perturbations": perturbed(),
    "valid: a condition": with_column(
        "experimental_condition_ontology_term_id", ["CHEBI:16412"] * 4 + ["na"] * (N_CELLS - 4)
    ),
    "valid: a dense layer of few zeros": with_layer(lambda data: data.X.toarray() + 1),
    "valid: an unused category": with_empty_category,
    "valid: features that are filtered": with_flag(2),
    # columns
    "no cell types": without("cell_type_ontology_term_id"),
    "no assay": without("assay_ontology_term_id"),
    "no disease": without("disease_ontology_term_id"),
    "no sex": without("sex_ontology_term_id"),
    "no tissue": without("tissue_ontology_term_id"),
    "no tissue type": without("tissue_type"),
    "no ethnicity": without("self_reported_ethnicity_ontology_term_id"),
    "no stage": without("development_stage_ontology_term_id"),
    "no donor": without("donor_id"),
    "no suspension": without("suspension_type"),
    "no primary data": without("is_primary_data"),
    "a deprecated column": with_column("ethnicity", "x"),
    "organism at every cell": all_of(
        with_column("organism_ontology_term_id", "NCBITaxon:9606"), without_uns("organism_ontology_term_id")
    ),
    "a reserved column": with_column("cell_type", "B cell"),
    "a hidden column": with_column("__mine", "x"),
    "a hidden key": with_uns(__mine="x"),
    "primary data as text": with_column("is_primary_data", "True"),
    "donors as numbers": with_column("donor_id", [number % 2 for number in range(N_CELLS)]),
    "donors without a value": with_missing("donor_id"),
    "donors as empty text": with_some("donor_id", " "),
    "a donor called na": with_some("donor_id", "na"),
    "assay without a value": with_missing("assay_ontology_term_id"),
    "a category of truth values": with_column("flag", [number % 2 == 0 for number in range(N_CELLS)]),
    "repeated cell names": duplicate_names,
    # terms
    "an id that is none": with_some("cell_type_ontology_term_id", "CL:12312"),
    "an id with an underscore": with_some("cell_type_ontology_term_id", "CL_0000236"),
    "a label for an id": with_some("cell_type_ontology_term_id", "B cell"),
    "an id of another ontology": with_some("cell_type_ontology_term_id", "UBERON:0000178"),
    "a forbidden cell type": with_some("cell_type_ontology_term_id", "CL:0000255"),
    "an obsolete cell type": with_some("cell_type_ontology_term_id", "CL:0000217"),
    "an obsolete cell type that is replaced": with_some("cell_type_ontology_term_id", "CL:0000044"),
    "na for a cell of a tissue": with_some("cell_type_ontology_term_id", "na"),
    "a zebrafish cell in man": with_some("cell_type_ontology_term_id", "ZFA:0009000"),
    "an assay that is none": with_some("assay_ontology_term_id", "EFO:0000001"),
    "an assay with its name": with_some("assay_ontology_term_id", "EFO:0009922 (10x 3' v3)"),
    "an obsolete disease": with_some("disease_ontology_term_id", "MONDO:0000010"),
    "a disease that is none": with_some("disease_ontology_term_id", "MONDO:0021125"),
    "two diseases out of order": with_some("disease_ontology_term_id", "MONDO:0100096 || MONDO:0005812"),
    "one disease twice": with_some("disease_ontology_term_id", "MONDO:0005812 || MONDO:0005812"),
    "healthy and ill": with_some("disease_ontology_term_id", "MONDO:0005812 || PATO:0000461"),
    "a sex that is none": with_some("sex_ontology_term_id", "PATO:0000461"),
    "sex na in a tissue": with_some("sex_ontology_term_id", "na"),
    "a tissue that is a cell": with_some("tissue_ontology_term_id", "CL:0000236"),
    "a culture of a tissue": culture("UBERON:0000178"),
    "an organoid of an embryo": all_of(
        with_column("tissue_type", "organoid"), with_column("tissue_ontology_term_id", "UBERON:0000922")
    ),
    "a stage of the mouse in man": with_some("development_stage_ontology_term_id", "MmusDv:0000061"),
    "a stage na in a tissue": with_some("development_stage_ontology_term_id", "na"),
    "an ethnicity that is none": with_some("self_reported_ethnicity_ontology_term_id", "HANCESTRO:0004"),
    "an ethnicity na in man": with_some("self_reported_ethnicity_ontology_term_id", "na"),
    "a suspension that is none": with_some("suspension_type", "tissue"),
    "a suspension that the assay has not": all_of(
        with_column("assay_ontology_term_id", "EFO:0008720"), with_column("suspension_type", "cell")
    ),
    "the tissue type of an older version": all_of(
        with_column("tissue_type", "cell culture"), with_column("tissue_ontology_term_id", "CL:0000057")
    ),
    "a cell line that is none": cell_line(tissue_ontology_term_id="UBERON:0000178"),
    "a cell line with a donor": cell_line(donor_id="donor_1"),
    "a cell line with a sex": cell_line(sex_ontology_term_id="PATO:0000383"),
    "a cell line with a stage": cell_line(development_stage_ontology_term_id="HsapDv:0000258"),
    "a cell line with an ethnicity": cell_line(self_reported_ethnicity_ontology_term_id="unknown"),
    "a cell line with na for some cells": all_of(cell_line(), with_some("cell_type_ontology_term_id", "CL:0000057")),
    "a condition that is none": with_column(
        "experimental_condition_ontology_term_id", ["CHEBI:50906"] * 4 + ["na"] * (N_CELLS - 4)
    ),
    "conditions na for all": with_column("experimental_condition_ontology_term_id", "na"),
    # the data set as a whole
    "no title": without_uns("title"),
    "a title with blanks": with_uns(title=" Simulated  blood"),
    "a title that is a number": with_uns(title=7),
    "no organism": without_uns("organism_ontology_term_id"),
    "an organism that is none": with_uns(organism_ontology_term_id="NCBITaxon:4932"),
    "an organism that is forbidden": with_uns(organism_ontology_term_id="NCBITaxon:2697049"),
    "another organism than the genes": with_uns(organism_ontology_term_id="NCBITaxon:9483"),
    "a deprecated key": with_uns(X_normalization="log1p"),
    "a reserved key": with_uns(citation="x"),
    "an empty key": with_uns(mine=np.array([], dtype=np.float64)),
    "a distribution that is none": with_uns(X_approximate_distribution="poisson"),
    "a batch condition that is no column": with_uns(batch_condition=np.array(["plate"])),
    "a default embedding that is absent": with_uns(default_embedding="X_tsne"),
    "too few colors": with_uns(donor_id_colors=np.array(["#aabbcc"])),
    "colors of no column": with_uns(plate_colors=np.array(["#aabbcc"])),
    "colors in no notation": with_uns(donor_id_colors=np.array(["#aabbcc", "reddish"])),
    "spatial without a spatial assay": with_uns(spatial={"is_single": True}),
    "the general term of Visium": all_of(
        with_column("assay_ontology_term_id", "EFO:0010961"), with_uns(spatial={"is_single": False})
    ),
    "places without a slide": with_column("array_row", list(range(N_CELLS)), category=False),
    # features
    "a feature with a version": with_genes(lambda names: [f"{names[0]}.5", *names[1:]]),
    "a symbol for a feature": with_genes(lambda names: ["CD3D", *names[1:]]),
    "a retired feature": with_genes(lambda names: ["ENSG00000112096", *names[1:]]),
    "a feature of the mouse": with_genes(lambda names: ["ENSMUSG00000032094", *names[1:]]),
    "features in another order": with_genes(lambda names: [*names[1:], names[0]], raw=False),
    "a spike-in": with_genes(lambda names: ["ERCC-00002", *names[1:]]),
    "no flag of filtered features": lambda data: data.var.drop(columns=["feature_is_filtered"], inplace=True),
    "a flag as text": lambda data: data.var.__setitem__("feature_is_filtered", "no"),
    "a flag without raw": all_of(only_counts, with_flag(2)),
    # matrices
    "no raw counts": without_raw,
    "raw and X swapped": swapped,
    "raw as float64": with_raw(lambda counts: csr_matrix(counts.astype(np.float64))),
    "raw as integers": with_raw(lambda counts: csr_matrix(counts.astype(np.int32))),
    "raw with halves": with_raw(halves),
    "raw with negative values": with_raw(negative),
    "raw with an empty cell": with_raw(empty_cell),
    "raw with a cell twice": with_raw(doubled_cell),
    "raw by columns": with_raw(csc_matrix),
    "X by columns": with_x(csc_matrix),
    "X dense": with_x(lambda values: np.where(values > 6, values, 0).astype(np.float32)),
    "a layer by columns": with_layer(lambda data: csc_matrix(data.X)),
    "a dense layer of zeros": with_layer(lambda data: np.eye(*data.shape, dtype=np.float32)),
    # embeddings
    "no embedding": lambda data: data.obsm.pop("X_umap"),
    "an embedding of another name": other_embedding("umap"),
    "an embedding of an impossible name": other_embedding("X_my map"),
    "an embedding of one column": changed_embedding(lambda values: values[:, :1]),
    "an embedding with an infinite value": changed_embedding(infinite),
    "an embedding without values": changed_embedding(lambda values: values * np.nan),
    "an embedding of text": with_obsm("X_text", np.full((N_CELLS, 2), "x", dtype=object)),
    "an embedding called spatial": with_obsm("spatial", np.zeros((N_CELLS, 2))),
    "an embedding as a table": with_obsm("X_table", coo_matrix(np.ones((N_CELLS, 2))).tocsr()),
    # perturbations
    "perturbations that are not described": with_perturbation("g1", "CRISPR knockout screen"),
    "a perturbation that is not described": perturbed(ids="g7"),
    "perturbations out of order": perturbed(ids="g2 || g1"),
    "a perturbation without a role": perturbed(role=None),
    "a perturbation with another role": perturbed(role="both"),
    "a guide that is too short": perturbed(protospacer_sequence="ACGT"),
    "a motif in another notation": perturbed(protospacer_adjacent_motif="NGG"),
    "a strategy that is none": perturbed(strategy="magic"),
    "a control that targets": perturbed(strategy="control"),
    "perturbed without a perturbation": perturbed(strategy="no perturbations"),
    # one fault for each rule that none of the above breaks
    "valid: a mouse": organism(MOUSE, development_stage_ontology_term_id="MmusDv:0000110"),
    "valid: a worm": organism(WORM, cell_type_ontology_term_id="WBbt:0003675", sex_ontology_term_id="PATO:0001340"),
    "valid: a fly": organism(FLY, cell_type_ontology_term_id="FBbt:00005106"),
    "valid: a fish": organism(FISH, cell_type_ontology_term_id="ZFA:0009141", tissue_ontology_term_id="ZFA:0000107"),
    "a mouse with a stage of man": organism(MOUSE, development_stage_ontology_term_id="HsapDv:0000258"),
    "a worm with a cell of the fly": organism(WORM, cell_type_ontology_term_id="FBbt:00005106"),
    "a worm with a stage of man": organism(WORM, development_stage_ontology_term_id="HsapDv:0000258"),
    "a worm that is female": organism(WORM, sex_ontology_term_id="PATO:0000383"),
    "a worm with a tissue of the fish": organism(WORM, tissue_ontology_term_id="ZFA:0000107"),
    "a fly with a cell of the fish": organism(FLY, cell_type_ontology_term_id="ZFA:0009141"),
    "a fly with a stage of man": organism(FLY, development_stage_ontology_term_id="HsapDv:0000258"),
    "a fly with a tissue of the fish": organism(FLY, tissue_ontology_term_id="ZFA:0000107"),
    "a fish with a cell of the fly": organism(FISH, cell_type_ontology_term_id="FBbt:00005106"),
    "a fish with a stage of man": organism(FISH, development_stage_ontology_term_id="HsapDv:0000258"),
    "a fish with a tissue of the fly": organism(FISH, tissue_ontology_term_id="FBbt:00005146"),
    "a culture of the worm's, of the fly": culture_of(WORM, "FBbt:00005106", "primary cell culture"),
    "a culture of the fly's, of the fish": culture_of(FLY, "ZFA:0009141", "primary cell culture"),
    "a culture of the fish's, of the fly": culture_of(FISH, "FBbt:00005106", "primary cell culture"),
    "an older culture of the worm's, of the fly": culture_of(WORM, "FBbt:00005106", "cell culture"),
    "an older culture of the fly's, of the fish": culture_of(FLY, "ZFA:0009141", "cell culture"),
    "an older culture of the fish's, of the fly": culture_of(FISH, "FBbt:00005106", "cell culture"),
    "an older culture of man's, of the fly": old_culture("FBbt:00005106"),
    "an older culture of a tissue": old_culture("UBERON:0000178"),
    "an organoid of a cell": all_of(
        with_column("tissue_type", "organoid"), with_column("tissue_ontology_term_id", "CL:0000236")
    ),
    "cell types without a value": with_missing("cell_type_ontology_term_id"),
    "stages without a value": with_missing("development_stage_ontology_term_id"),
    "diseases without a value": with_missing("disease_ontology_term_id"),
    "ethnicities without a value": with_missing("self_reported_ethnicity_ontology_term_id"),
    "sexes without a value": with_missing("sex_ontology_term_id"),
    "tissues without a value": with_missing("tissue_ontology_term_id"),
    "tissue types without a value": with_missing("tissue_type"),
    "suspensions without a value": with_missing("suspension_type"),
    "the tissue type as numbers": with_column("tissue_type", list(range(N_CELLS)), category=False),
    "the suspension as numbers": with_column("suspension_type", list(range(N_CELLS)), category=False),
    "nuclei that the assay has not": all_of(
        with_column("assay_ontology_term_id", "EFO:0030002"), with_column("suspension_type", "nucleus")
    ),
    "a feature twice": with_genes(lambda names: [names[1], *names[1:]]),
    "a reserved column of features": with_var_column("feature_name", "x"),
    "a reserved column of raw features": with_raw_columns(feature_name="x"),
    "the flag in the raw features": with_raw_columns(feature_is_filtered=False),
    "organisms without a value": all_of(
        with_column("organism_ontology_term_id", "NCBITaxon:9606"),
        without_uns("organism_ontology_term_id"),
        with_missing("organism_ontology_term_id"),
    ),
    "a cell line with types that are none": cell_line(cell_type_ontology_term_id="UBERON:0000178"),
    "an organism that is a number": with_uns(organism_ontology_term_id=9606),
    "perturbations na for all": all_of(perturbed(), with_column("genetic_perturbation_id", "na")),
    "perturbations as numbers": all_of(
        perturbed(), with_column("genetic_perturbation_id", [number % 2 for number in range(N_CELLS)])
    ),
    "strategies as numbers": all_of(
        perturbed(), with_column("genetic_perturbation_strategy", [number % 2 for number in range(N_CELLS)])
    ),
    "conditions without a value": all_of(
        with_column("experimental_condition_ontology_term_id", ["CHEBI:16412"] * 4 + ["na"] * (N_CELLS - 4)),
        with_missing("experimental_condition_ontology_term_id"),
    ),
    # what a schema does not ask
    "passes: rounded up CP10K": with_raw(ceil_cp10k),
    "passes: no donor known": with_column("donor_id", "unknown"),
    "passes: all labels are a cell": with_column("cell_type_ontology_term_id", "CL:0000000"),
}
"""Name -> what is done to the valid object."""


def write_variant(name: str, folder: Path, *, schema: int = 7) -> Path:
    """Write one variant in the form of a version of the schema, named by its number, and return its path."""
    data = valid_data()
    changed = VARIANTS[name](data)
    written = changed if isinstance(changed, ad.AnnData) else data
    path = folder / f"variant_{list(VARIANTS).index(name):03}_{'5' if schema < 6 else '7'}.h5ad"
    if schema < 6:
        with_organism_of_cells(written)
    if not path.exists():
        written.write_h5ad(path)
    return path


def with_organism_of_cells(data: ad.AnnData) -> None:
    """Say the organism at every cell, as schema 5 wants it."""
    organism = data.uns.pop("organism_ontology_term_id", None)
    if organism is not None and "organism_ontology_term_id" not in data.obs:
        data.obs["organism_ontology_term_id"] = pd.Series(organism, index=data.obs_names).astype("category")
