"""A query is proven, held against the atlas' genes, and refused where names and values do not go together."""

import dataclasses
import json

import anndata
import h5py
import numpy as np
import pandas as pd
import pytest
from scipy.sparse import csr_matrix

from cytolabe.errors import ConflictError, RefusedError, UnknownGenesError, UnreadableInputError, UsageError
from cytolabe.evaluate.decisions import Wish
from cytolabe.flow import annotated_file
from cytolabe.flow.annotate import AnnotationPlan, annotate_query, check_plan
from cytolabe.flow.annotated_file import refuse_taken, write_annotated
from cytolabe.flow.annotation_record import annotation_record
from cytolabe.flow.interpret import reconcile_atlas
from cytolabe.flow.query_file import MIN_GENES, gene_gate, read_query
from cytolabe.flow.sources import ingest_sources
from cytolabe.genes.reference import load_reference
from cytolabe.models import registry
from cytolabe.models.cards import CARDS
from cytolabe.report import render_annotation
from cytolabe.snapshot.atlas import open_atlas

GENES = sorted(load_reference().protein_coding)[:700]
TYPES = ("B cells", "NK cells", "Monocytes")
N = 150


def lab(seed, *, types=TYPES, genes=GENES, n_cells=N):
    """Return a lab's cells: types differ in a third of their genes, donors a little, and every gene has its own level."""
    rng = np.random.default_rng(seed)
    level = np.random.default_rng(1).gamma(0.6, 2.0, len(GENES)) + 0.05
    programs = {name: np.exp(np.random.default_rng(10 + k).normal(0, 1.2, len(GENES)) * (np.arange(len(GENES)) % 3 == k)) for k, name in enumerate((*TYPES, "Fibroblasts"))}  # fmt: skip
    kinds = np.array(types, dtype=object)[np.arange(n_cells) % len(types)]
    donors = np.array([f"donor{seed}{k // 3 % 3}" for k in range(n_cells)])
    shift = {name: np.exp(np.random.default_rng(int(name[5:])).normal(0, 0.1, len(GENES))) for name in set(donors)}
    rates = np.array([level * programs[kind] * shift[donor] for kind, donor in zip(kinds, donors, strict=True)])
    table = pd.DataFrame({"cell_type": kinds, "donor_id": donors}, index=[f"c{k}" for k in range(n_cells)])
    columns = [GENES.index(gene) for gene in genes]
    counts = rng.poisson(rates)[:, columns].astype(np.float32)
    return anndata.AnnData(X=csr_matrix(counts), obs=table, var=pd.DataFrame(index=list(genes)))


@pytest.fixture(scope="module")
def snapshot(tmp_path_factory):
    folder = tmp_path_factory.mktemp("labs")
    for seed, name in ((1, "a"), (2, "b")):
        lab(seed).write_h5ad(folder / f"{name}.h5ad")
    ingest_sources(folder / "atlas", [folder])
    reconcile_atlas(folder / "atlas")
    return open_atlas(folder / "atlas").freeze()


@pytest.fixture
def query(tmp_path):
    def write(cells, name="query"):
        path = tmp_path / f"{name}.h5ad"
        cells.write_h5ad(path)
        return path

    return write


PLAN = AnnotationPlan(options={"n_dims": 8}, max_open_types=1)


@pytest.fixture(scope="module")
def annotated(snapshot, tmp_path_factory):
    """Return the annotation of a third lab, one cell of which has no counts, and which holds cells of a type of its own."""
    path = tmp_path_factory.mktemp("query") / "query.h5ad"
    cells = anndata.concat([lab(3), lab(4, types=("Fibroblasts",), n_cells=40)], index_unique="-")
    matrix = cells.X.tolil()
    matrix[5] = 0
    cells.X = csr_matrix(matrix)
    cells.write_h5ad(path)
    return annotate_query(snapshot, path, PLAN), cells


def test_known_types_are_named_and_a_type_that_the_atlas_lacks_is_unknown(annotated):
    made, cells = annotated
    table = made.columns
    assert len(table) == cells.n_obs
    known = (cells.obs["cell_type"] != "Fibroblasts").to_numpy() & (np.arange(cells.n_obs) != 5)
    terms = {"B cells": "CL:0000236", "NK cells": "CL:0000623", "Monocytes": "CL:0000576"}
    named = table["cytolabe_term_id"].to_numpy()
    right = np.array([terms.get(kind) == term for kind, term in zip(cells.obs["cell_type"], named, strict=True)])
    answered = known & (table["cytolabe_status"] == "labelled").to_numpy()
    assert answered.sum() > 0.8 * known.sum()
    assert right[answered].mean() > 0.95
    assert (named[~known] == "unknown").mean() > 0.9
    assert made.held_out.precision >= 0.9
    assert made.as_new_dataset is not None


def test_a_cell_without_counts_keeps_its_row_and_says_why(annotated):
    row = annotated[0].columns.iloc[5]
    assert row["cytolabe_status"] == "not_scored"
    assert "no count" in row["cytolabe_reason"]
    assert np.isnan(row["cytolabe_confidence"])
    assert (annotated[0].columns["cytolabe_status"] == "not_scored").sum() == 1


def test_confidence_lies_in_its_range_and_the_order_of_cells_changes_nothing(annotated, snapshot, query):
    made, cells = annotated
    order = np.random.default_rng(0).permutation(cells.n_obs)
    again = annotate_query(snapshot, query(cells[order].copy()), PLAN)
    for name in made.columns:
        one, other = made.columns[name].to_numpy()[order], again.columns[name].to_numpy()
        if one.dtype == object:
            assert np.array_equal(one, other), name
        else:
            assert np.allclose(one, other, atol=1e-6, equal_nan=True), name
            assert ((one[~np.isnan(one)] >= 0) & (one[~np.isnan(one)] <= 1)).all()
    repeated = annotation_record(again, access="")
    whole = annotation_record(made, access="")
    for part in ("held_out", "open_set", "calibration", "term_thresholds", "genes", "answers"):
        assert repeated[part] == whole[part]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Flat:
    """A model that gives every cell nearly the same vector, whatever its counts."""

    card = CARDS["pca"]
    notes = ()
    scopes = ()

    def fit(self, train, *, query, seed):
        return self

    def embed(self, view):
        noise = np.random.default_rng(view.counts.shape[0]).normal(size=(view.counts.shape[0], 4))
        return np.array([3.0, -1.0, 2.0, 0.5]) + 1e-4 * noise


def test_an_embedding_that_collapsed_is_a_finding_of_the_record_and_of_the_page(
    annotated, snapshot, query, monkeypatch
):
    assert annotated[0].findings == ()
    monkeypatch.setitem(registry._REGISTRY, "flat", registry._Entry(options=Flat, make=Flat))
    made = annotate_query(snapshot, query(lab(3)), AnnotationPlan(model="flat", max_open_types=0))
    record = annotation_record(made, access="")
    (finding,) = record["findings"]
    assert (finding["code"], finding["where"], finding["severity"]) == ("W-MODEL-02", "flat", "warning")
    assert "all 300 cells looked at have one vector" in finding["message"]
    assert "<code>W-MODEL-02</code> flat: the embedding collapsed" in render_annotation(record)
    assert "W-MODEL-02" not in render_annotation(annotation_record(annotated[0], access=""))


def test_genes_that_the_query_lacks_are_left_out_of_the_model_and_that_is_said(snapshot, query):
    made = annotate_query(snapshot, query(lab(3, genes=GENES[:500])), PLAN)
    assert made.gate.genes == tuple(sorted(GENES[:500]))
    assert made.gate.genes_fraction == pytest.approx(500 / 700)
    assert any("does not measure 200 of the 700 genes" in note for note in made.notes)
    fewer = annotate_query(snapshot, query(lab(3, genes=GENES[:300]), "fewer"), PLAN)
    assert any("QUALIFIED(panel): 300 genes" in note for note in fewer.notes)


def test_a_query_that_lies_elsewhere_is_qualified(snapshot, query):
    cells = lab(3)
    # Another technique: every gene is caught with another probability.
    caught = np.random.default_rng(8).uniform(0.02, 1.0, cells.n_vars)
    cells.X = csr_matrix(np.random.default_rng(9).binomial(cells.X.toarray().astype(int), caught), dtype=np.float32)
    made = annotate_query(snapshot, query(cells), PLAN)
    assert made.notes[0].startswith("QUALIFIED(shift): ")
    assert not any(note.startswith("QUALIFIED(shift)") for note in annotate_query(snapshot, query(lab(5)), PLAN).notes)


def test_atlas_cells_are_chosen_and_what_could_not_be_tried_is_said(snapshot, query):
    one = annotate_query(snapshot, query(lab(3)), dataclasses.replace(PLAN, where="dataset_id = 'a'"))
    assert one.reference.kinds == {"person": 3}
    assert one.as_new_dataset is None
    assert any(line.startswith("answers for a data set that the atlas does not have") for line in one.not_evaluated)
    whole = annotate_query(snapshot, query(lab(3)), dataclasses.replace(PLAN, held_out="dataset"))
    assert (whole.reference.kinds, whole.as_new_dataset) == ({"dataset": 2}, None)
    record = annotation_record(
        dataclasses.replace(whole, plan=dataclasses.replace(PLAN, options={"checkpoint": "/home/somebody/weights"})),
        access="",
    )
    assert record["asked"]["options"] == {"checkpoint": "weights"}


class TestGate:
    def gate(self, snapshot, path, **changes):
        totals = np.asarray(snapshot.counts(np.arange(snapshot.n_cells), GENES).sum(axis=0), dtype=float).ravel()
        return gene_gate(read_query(path), GENES, totals, **{"organism": "Homo sapiens", **changes})

    def test_a_query_of_the_same_genes_passes(self, snapshot, query):
        gate = self.gate(snapshot, query(lab(3)))
        assert gate.agreement > 0.8
        assert (gate.genes_fraction, gate.counts_fraction) == (1.0, 1.0)
        assert gate.notes == ()

    def test_shuffled_gene_names_are_refused_although_every_name_is_known(self, snapshot, query):
        cells = lab(3)
        cells.var_names = np.random.default_rng(0).permutation(cells.var_names)
        with pytest.raises(RefusedError, match="wrong gene names"):
            self.gate(snapshot, query(cells))

    def test_too_few_genes_are_refused_with_their_number(self, snapshot, query):
        with pytest.raises(UnknownGenesError, match=f"measures 150 of the 700 genes.*at least {MIN_GENES} genes"):
            self.gate(snapshot, query(lab(3, genes=GENES[:150])))

    def test_genes_without_the_counts_are_refused(self, snapshot, query):
        totals = np.asarray(snapshot.counts(np.arange(snapshot.n_cells), GENES).sum(axis=0), dtype=float).ravel()
        poor = [GENES[k] for k in np.argsort(totals)[:250]]
        with pytest.raises(UnknownGenesError, match="250 of the 700 genes"):
            self.gate(snapshot, query(lab(3, genes=sorted(poor))))

    def test_another_organism_is_refused(self, snapshot, query):
        with pytest.raises(RefusedError, match="is Homo sapiens, the atlas is Mus musculus"):
            self.gate(snapshot, query(lab(3)), organism="Mus musculus")


class TestQuery:
    def test_normalized_values_are_no_query(self, query):
        cells = lab(3)
        cells.X = cells.X.multiply(1.37).tocsr().log1p()
        with pytest.raises(RefusedError, match="E-COUNTS-01"):
            read_query(query(cells))

    def test_a_value_that_is_not_finite_is_named(self, query):
        cells = lab(3)
        cells.X.data[7] = np.nan
        with pytest.raises(RefusedError, match="E-COUNTS-01"):
            read_query(query(cells))

    def test_names_that_are_no_genes_are_no_query(self, query):
        cells = lab(3)
        cells.var_names = [f"feature{k}" for k in range(cells.n_vars)]
        with pytest.raises(RefusedError, match="E-GENES-01"):
            read_query(query(cells))

    def test_an_empty_file_is_no_query(self, query, tmp_path):
        with pytest.raises((RefusedError, UnreadableInputError)):
            read_query(query(lab(3)[:0].copy()))
        with pytest.raises(UsageError, match="is no file"):
            read_query(tmp_path / "absent.h5ad")
        (tmp_path / "text.h5ad").write_text("no cells")
        with pytest.raises(UnreadableInputError):
            read_query(tmp_path / "text.h5ad")

    def test_columns_of_labels_and_names_that_occur_twice_stop_nothing(self, query):
        cells = lab(3)
        cells.obs["cell_type"] = [str(k % 3) for k in range(N)]
        cells.obs_names = ["same"] * N
        assert read_query(query(cells)).n_cells == N


class TestFile:
    def columns(self, n_cells):
        return pd.DataFrame(
            {"x_label": np.full(n_cells, "B cell", dtype=object), "x_confidence": np.ones(n_cells, np.float32)}
        )

    def test_the_contents_of_the_query_stay_as_they_were(self, query, tmp_path):
        cells = lab(3)
        cells.obsm["X_pca"] = np.ones((N, 2))
        cells.uns["mine"] = {"deep": np.arange(3)}
        cells.layers["other"] = cells.X * 2
        path, out = query(cells), tmp_path / "out.h5ad"
        before = path.read_bytes()
        write_annotated(path, out, self.columns(N), key="x_annotation", record={"a": 1})
        assert path.read_bytes() == before
        found = anndata.read_h5ad(out)
        assert list(found.obs) == ["cell_type", "donor_id", "x_label", "x_confidence"]
        assert found.obs[["cell_type", "donor_id"]].equals(anndata.read_h5ad(path).obs)
        assert json.loads(found.uns["x_annotation"]) == {"a": 1}
        assert found.uns["mine"]["deep"].tolist() == [0, 1, 2]
        assert (found.X != cells.X).nnz == 0
        assert (found.layers["other"] != cells.layers["other"]).nnz == 0

    def test_what_breaks_off_leaves_no_file(self, query, tmp_path, monkeypatch):
        path, out = query(lab(3)), tmp_path / "sub" / "out.h5ad"

        def broken(*_):
            raise RuntimeError(*["full disk"])

        monkeypatch.setattr(annotated_file, "write_elem", broken)
        with pytest.raises(UnreadableInputError):
            write_annotated(path, out, self.columns(N), key="x", record={})
        assert list(out.parent.iterdir()) == []

    def test_a_taken_name_is_never_written_over(self, query, tmp_path):
        path, out = query(lab(3)), tmp_path / "out.h5ad"
        write_annotated(path, out, self.columns(N), key="x_annotation", record={})
        with pytest.raises(ConflictError):
            write_annotated(path, out, self.columns(N), key="x_annotation", record={})
        with pytest.raises(UsageError, match="is there already"):
            refuse_taken(path, out, ["x_label"])
        with pytest.raises(UsageError, match=r"obs\['x_label'\].*another --prefix"):
            refuse_taken(out, tmp_path / "again.h5ad", ["x_label", "x_confidence"])
        with pytest.raises(UsageError, match="ends with"):
            refuse_taken(path, tmp_path / "x.zarr", [])

    def test_a_table_of_an_old_file_is_not_written_into(self, query):
        path = query(lab(3))
        with h5py.File(path, "r+") as file:
            names = file["obs/_index"][...].astype("S8")
            del file["obs"]
            file["obs"] = np.array([(name,) for name in names], dtype=[("index", "S8")])
        with pytest.raises((UsageError, RefusedError, UnreadableInputError)):
            read_query(path)


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"wish": Wish(precision=0.3)}, "--precision 0.3"), ({"wish": Wish(novel_fraction=0.7)}, "--novel 0.7"),
        ({"prefix": "a b"}, "--prefix"), ({"model": "majority", "options": {}}, "predicts labels"), ({"model": "nothing", "options": {}}, "no model"),
    ],
)  # fmt: skip
def test_a_plan_that_cannot_be_meant_is_refused_before_anything_is_read(changes, why):
    with pytest.raises(UsageError, match=why):
        check_plan(dataclasses.replace(PLAN, **changes))


def test_the_page_says_what_was_found_and_what_was_not_and_escapes_what_came(annotated):
    record = annotation_record(annotated[0], access="managed")
    page = render_annotation(record)
    assert page == render_annotation(json.loads(json.dumps(record)))
    assert "<script" not in page
    for words in (
        "What was not evaluated",
        "Reliability",
        "Risk over coverage",
        "the atlas is managed",
        "no labels",
        "Unseen types",
    ):
        assert words in page or words == "no labels"
    hostile = {**record, "query": {**record["query"], "name": "<img src=x onerror=alert(1)>"}, "notes": ["<b>note"]}
    shown = render_annotation(hostile)
    assert "<img" not in shown
    assert "<b>note" not in shown
    assert "donor" not in json.dumps(record["held_out"])
