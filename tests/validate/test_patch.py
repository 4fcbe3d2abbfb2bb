"""Patches: what is proposed, that it repairs, and that nothing is changed which was not read."""

import hashlib
import json

import anndata as ad
import pytest

from cytolabe.errors import ConflictError, IntegrityError, UsageError
from cytolabe.flow.amend import RECORD_KEY, amend_file
from cytolabe.flow.conform_child import look_through
from cytolabe.records import Severity
from cytolabe.validate.patch import patch_of, read_patch, written_patch

PACK = ("cellxgene-7",)
REPAIRED = {
    "an id with an underscore": "CL:0000236",
    "a label for an id": "CL:0000236",
    "an obsolete cell type that is replaced": "CL:0000051",
    "an obsolete disease": "MONDO:0008926",
    "an assay with its name": "EFO:0009922",
    "two diseases out of order": "MONDO:0005812 || MONDO:0100096",
    "one disease twice": "MONDO:0005812",
    "the tissue type of an older version": "primary cell culture",
    "organism at every cell": "NCBITaxon:9606",
    "a feature with a version": "ENSG00000167286",
    "a title with blanks": "Simulated blood",
    "an empty key": None,
    "conditions na for all": None,
}


def sha256(path):
    return hashlib.sha256(path.read_bytes()).hexdigest()


def errors_of(path):
    return [finding.code for finding in look_through(path, PACK) if finding.severity is Severity.ERROR]


@pytest.fixture
def patched(tmp_path):
    """Return a function that writes the patch of a file and returns its path."""

    def write(path):
        document = patch_of(look_through(path, PACK), source_name=path.name, source_sha256=sha256(path), packs=PACK)
        out = tmp_path / "patch.json"
        out.write_bytes(written_patch(document))
        return out

    return write


@pytest.mark.parametrize("name", REPAIRED)
def test_a_patch_repairs(name, variant, patched, tmp_path):
    path = variant(name)
    before = sha256(path)
    patch, out = patched(path), tmp_path / "new.h5ad"
    done = amend_file(path, patch, out)
    assert errors_of(path) != []
    assert errors_of(out) == []
    assert sha256(path) == before
    assert done.source_sha256 == before
    assert done.sha256 == sha256(out)
    if REPAIRED[name]:
        assert REPAIRED[name] in patch.read_text(encoding="utf-8")


def test_an_empty_category_goes_and_the_cells_stay_as_they_are(variant, patched, tmp_path):
    path, out = variant("valid: an unused category"), tmp_path / "new.h5ad"
    amend_file(path, patched(path), out)
    before, after = ad.read_h5ad(path), ad.read_h5ad(out)
    assert "donor_9" not in after.obs["donor_id"].cat.categories
    assert before.obs.astype(str).equals(after.obs.astype(str))
    assert (before.X != after.X).nnz == 0


def test_two_levels_become_one_where_the_repair_exists_already(variant, patched, tmp_path):
    path, out = variant("an id with an underscore"), tmp_path / "new.h5ad"
    amend_file(path, patched(path), out)
    before = ad.read_h5ad(path).obs["cell_type_ontology_term_id"].astype(str)
    after = ad.read_h5ad(out).obs["cell_type_ontology_term_id"]
    assert after.astype(str).equals(before.replace("CL_0000236", "CL:0000236"))
    assert after.cat.categories.is_unique


def test_what_was_applied_stands_in_the_copy(variant, patched, tmp_path):
    path, out = variant("a title with blanks"), tmp_path / "new.h5ad"
    done = amend_file(path, patched(path), out)
    [line] = ad.read_h5ad(out).uns[RECORD_KEY]
    assert json.loads(line) == {"n_operations": 1, "patch": done.patch_digest, "source_sha256": sha256(path)}


def test_the_same_findings_give_the_same_bytes(variant):
    path = variant("an id with an underscore")
    one, other = (
        written_patch(patch_of(look_through(path, PACK), source_name="x", source_sha256="0", packs=PACK))
        for _ in range(2)
    )
    assert one == other


def test_an_id_and_a_name_that_contradict_each_other_are_left_to_a_person(edits, planted):
    path = planted(edits.with_some("assay_ontology_term_id", "EFO:0009922 (sci-plex)"))
    [finding] = [found for found in look_through(path, PACK) if found.code == "E-TERM-01"]
    assert "EFO:0009922 (10x 3' v3)" in finding.message
    assert finding.autofix == ()


def test_what_may_be_nowhere_else_is_never_dropped(variant):
    for name in ("a deprecated column", "a reserved column", "a deprecated key"):
        assert [found.autofix for found in look_through(variant(name), PACK) if found.autofix] == []


def test_a_patch_of_another_file_is_not_applied(variant, patched, tmp_path):
    patch = patched(variant("a title with blanks"))
    with pytest.raises(IntegrityError, match="sha256"):
        amend_file(variant("valid"), patch, tmp_path / "new.h5ad")


def test_nothing_is_written_over_and_never_in_place(variant, patched, tmp_path):
    path = variant("a title with blanks")
    patch, out = patched(path), tmp_path / "new.h5ad"
    out.write_bytes(b"mine")
    with pytest.raises(ConflictError):
        amend_file(path, patch, out)
    assert out.read_bytes() == b"mine"
    with pytest.raises(UsageError):
        amend_file(path, patch, path)


def test_an_operation_that_does_not_find_what_it_replaces_stops_all_of_them(variant, patched, tmp_path):
    path = variant("a title with blanks")
    document = json.loads(patched(path).read_text(encoding="utf-8"))
    document["operations"].append(
        {"op": "replace_value", "table": "obs", "column": "tissue_type", "old": "moon", "new": "tissue"}
    )
    patch, out = tmp_path / "edited.json", tmp_path / "new.h5ad"
    patch.write_text(json.dumps(document), encoding="utf-8")
    with pytest.raises(IntegrityError, match="operation 2"):
        amend_file(path, patch, out)
    assert not out.exists()
    assert {entry.name for entry in tmp_path.iterdir()} == {"patch.json", "edited.json"}


@pytest.mark.parametrize(
    "content",
    [
        b"no json",
        b'{"format": "other", "source": {"name": "x", "sha256": "0"}, "operations": []}',
        b'{"format": "cytolabe-patch-1", "source": {"name": "x", "sha256": "0"}, "operations": [{"op": "format disk"}]}',
        b'{"format": "cytolabe-patch-1", "source": {"name": "x", "sha256": "0"}, "operations": [{"op": "drop_uns"}]}',
    ],
)
def test_a_patch_that_cannot_be_read_is_a_usage_error(content):
    with pytest.raises(UsageError):
        read_patch(content)
