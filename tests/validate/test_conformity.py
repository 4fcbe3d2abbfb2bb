"""Files against rule packs: what the official validator says, what it passes, and what is said of a finding."""

import json
import tomllib
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from cytolabe.errors import UsageError
from cytolabe.flow.conform_child import look_through
from cytolabe.ontology.lookup import TermBook
from cytolabe.records import Severity
from cytolabe.validate.conformity import CHECKS
from cytolabe.validate.schema import load_schema_pack, messages, schema_packs

VERDICTS = {
    schema: json.loads(Path(__file__).with_name(f"verdicts-{schema}.json").read_text(encoding="utf-8"))["verdicts"]
    for schema in (5, 6, 7)
}
RECORDED = VERDICTS[7]
PACKS = ("cellxgene-5", "cellxgene-6", "cellxgene-7")
FIXTURES = Path(__file__).parents[3] / "shared" / "data" / "fixtures"
TERM_KEYS = (
    "terms", "under", "excluded_under", "among", "under_both", "not_under", "spatial", "visium", "roots", "organs", "tumors",
)  # fmt: skip
LARGE = ("NCBITaxon", "CHEBI", "UniProt")
"""Ontologies in which a term takes a tenth of a second and more to find."""


def errors_of(findings):
    return [finding.code for finding in findings if finding.severity is Severity.ERROR]


@pytest.mark.parametrize("name", RECORDED)
@pytest.mark.parametrize("schemas", [(7, 6), (5,)], ids=str)
def test_we_agree_with_the_official_validators_on(schemas, name, variant):
    found = look_through(variant(name, schemas[0]), tuple(f"cellxgene-{schema}" for schema in schemas))
    for schema in schemas:
        title = load_schema_pack(f"cellxgene-{schema}").title
        errors = errors_of(finding for finding in found if finding.rule.startswith(title))
        # Null: it fell over, which lets no file in.
        assert (not errors) == bool(VERDICTS[schema][name]["valid"]), (schema, errors)


def test_every_variant_has_a_recorded_verdict_of_each_version(edits):
    for recorded in VERDICTS.values():
        assert list(edits.VARIANTS) == list(recorded)
        assert 20 < sum(verdict["valid"] is True for verdict in recorded.values()) < len(recorded) - 60


@pytest.mark.parametrize(
    ("name", "code"),
    [
        ("passes: rounded up CP10K", "E-COUNTS-21"),
        ("passes: no donor known", "W-DONOR-01"),
        ("passes: all labels are a cell", "W-CLASS-06"),
    ],
)
def test_what_the_official_validator_passes_is_caught(name, code, variant):
    assert RECORDED[name]["valid"]
    assert code in {finding.code for finding in look_through(variant(name), ("cytolabe-2",))}


def test_a_clean_file_gives_no_false_alarm(variant):
    findings = look_through(variant("valid"), ("cellxgene-7", "cytolabe-2"))
    assert {finding.code for finding in findings} == {"W-FEATURE-16"}  # it has 24 features


@pytest.mark.parametrize(("name", "is_valid"), [("example_valid", True), ("example_invalid_CL", False)])
def test_the_examples_of_the_schema_are_judged_as_they_are_named(name, is_valid):
    path = FIXTURES / f"{name}.h5ad"
    if not path.exists():
        pytest.skip("the fixtures are not here")
    assert (not errors_of(look_through(path, ("cellxgene-7",)))) == is_valid


def test_all_faults_of_a_file_are_told_at_once(edits, planted):
    path = planted(
        edits.all_of(
            edits.with_raw(edits.halves),
            edits.without("sex_ontology_term_id"),
            edits.with_some("cell_type_ontology_term_id", "CL:12312"),
            edits.without_uns("title"),
            edits.other_embedding("umap"),
        )
    )
    assert {"E-RAW-02", "E-TERM-01", "E-OBSM-01"} <= set(errors_of(look_through(path, ("cellxgene-7",))))
    assert Counter(errors_of(look_through(path, ("cellxgene-7",))))["E-SCHEMA-01"] == 2


def test_a_finding_says_where_how_many_and_by_which_section_of_which_version(edits, planted):
    path = planted(edits.with_some("cell_type_ontology_term_id", "CL:12312", n_cells=5))
    [finding] = [found for found in look_through(path, ("cellxgene-7",)) if found.code == "E-TERM-01"]
    assert (finding.where, finding.n_affected, finding.n_total) == ("obs['cell_type_ontology_term_id']", 5, 24)
    assert finding.examples == ("CL:12312",)
    assert finding.rule == "CELLxGENE schema 7.1.0, obs / cell_type_ontology_term_id"
    assert finding.remedy


def test_versions_differ_where_the_schema_does(variant, edits, planted):
    def codes(path, pack):
        return set(errors_of(look_through(path, (pack,))))

    older = variant("the tissue type of an older version")
    assert codes(older, "cellxgene-6") == set()
    assert codes(older, "cellxgene-7") == {"E-SCHEMA-12"}
    twice = variant("raw with a cell twice")
    assert "E-RAW-06" in codes(twice, "cellxgene-6")
    assert "E-RAW-06" not in codes(twice, "cellxgene-5")
    in_cells = variant("organism at every cell")
    assert codes(in_cells, "cellxgene-5") == set()
    assert codes(in_cells, "cellxgene-6") == {"E-SCHEMA-02"}
    two = variant("valid: two diseases in order")
    assert codes(two, "cellxgene-6") == set()
    several = planted(
        edits.all_of(
            edits.with_column("organism_ontology_term_id", "NCBITaxon:9606"),
            edits.without_uns("organism_ontology_term_id"),
            edits.with_some("disease_ontology_term_id", "MONDO:0005812 || MONDO:0100096"),
        )
    )
    assert codes(several, "cellxgene-5") == {"E-TERM-01"}


def test_a_published_file_may_bear_what_the_platform_wrote(edits, planted):
    published = edits.all_of(
        edits.with_column("cell_type", "B cell"), edits.with_uns(schema_version="7.1.0", schema_reference="https://x")
    )
    assert errors_of(look_through(planted(published), ("cellxgene-7",))) == []


def test_an_unknown_pack_is_named_with_those_there_are():
    with pytest.raises(UsageError, match="cellxgene-7"):
        load_schema_pack("cellxgene-9")


def test_a_file_that_is_none_is_told_and_not_read(tmp_path):
    path = tmp_path / "page.h5ad"
    path.write_text("<html>", encoding="utf-8")
    assert errors_of(look_through(path, ("cellxgene-7",)))


def test_a_filtered_feature_with_values_is_named_and_refused_where_its_validator_refuses_it(variant):
    name = "valid: features that are filtered"
    newer = {finding.code: finding for finding in look_through(variant(name), ("cellxgene-7",))}
    older = {finding.code: finding for finding in look_through(variant(name, 5), ("cellxgene-5",))}
    assert (newer["W-FEATURE-18"].n_affected, older["E-FEATURE-20"].n_affected) == (2, 2)
    assert newer["W-FEATURE-18"].examples == ("ENSG00000167286", "ENSG00000198851")
    assert "E-FEATURE-20" not in newer


def test_zeros_of_a_filtered_feature_are_what_the_flag_wants(edits, planted):
    def emptied(values):
        values[:, :2] = 0
        return edits.csr_matrix(values)

    path = planted(edits.all_of(edits.with_flag(2), edits.with_x(emptied)))
    assert {"W-FEATURE-18", "E-FEATURE-20"} & {
        f.code for f in look_through(path, ("cellxgene-7", "cellxgene-5"))
    } == set()


def test_features_of_another_organism_are_told_where_their_validator_passes_them(variant):
    name = "a feature of the mouse"
    assert "E-FEATURE-12" in errors_of(look_through(variant(name), ("cellxgene-6",)))
    older = look_through(variant(name, 5), ("cellxgene-5",))
    told = [finding for finding in older if finding.code == "W-FEATURE-21"]
    assert {finding.where for finding in told} == {"var index", "raw.var index"}
    assert errors_of(older) == []


# --- packs as data ------------------------------------------------------------------------------------------------


def test_there_is_a_pack_for_each_version_and_one_of_our_own():
    assert {*PACKS, "cytolabe-2"} == set(schema_packs())


@pytest.mark.parametrize("name", [*PACKS, "cytolabe-2"])
def test_every_check_of_a_pack_is_of_a_known_kind(name):
    assert {rule.check for rule in load_schema_pack(name).rules} <= set(CHECKS)


@pytest.mark.parametrize("name", [*PACKS, "cytolabe-2"])
def test_every_term_that_a_pack_names_is_in_the_release_it_reads(name):
    """A digit that was transcribed wrongly would silently allow or forbid nothing."""
    pack = load_schema_pack(name)
    terms = TermBook(releases={key: release for key, release in pack.releases.items() if key not in LARGE})
    asked = {
        term
        for rule in pack.rules
        for source in (rule.options, *rule.when, *rule.options.get("lineages", ()))
        for key in TERM_KEYS
        for term in source.get(key, ())
        if terms.ontology_of(term)
    }
    assert sorted(term for term in asked if terms.find(term) is None) == []
    assert len(asked) > 5


def test_organisms_of_a_rule_are_organisms_of_the_pack():
    """The text of the schema has NCBITaxon:6293 in places where the worm, 6239, is meant."""
    for name in PACKS:
        pack = load_schema_pack(name)
        known = {entry["taxon"] for entry in pack.organisms}
        named = {
            term
            for rule in pack.rules
            for source in (rule.options, *rule.when)
            for key in ("terms", "among", "outside", "outside_under", "under")
            for term in source.get(key, ())
            if term.startswith("NCBITaxon:")
        }
        assert named <= known


def test_every_code_of_a_check_has_a_message_and_no_message_is_idle():
    used = set()
    for path in (Path(__file__).parents[2] / "src" / "cytolabe" / "validate").glob("check_*.py"):
        text = path.read_text(encoding="utf-8")
        used |= {code for code in messages() if f'"{code}"' in text}
    assert used == set(messages())


def test_a_pack_of_checks_says_its_name_and_section():
    folder = Path(__file__).parents[2] / "src" / "cytolabe" / "validate" / "packs"
    for name in (*PACKS, "cytolabe-2"):
        document = tomllib.loads((folder / f"{name}.toml").read_text(encoding="utf-8"))
        assert document["name"] == name
        assert all(entry["section"] for entry in document["checks"])


# --- what obeys a schema and does not mean it ---------------------------------------------------------------------


def meanings(path):
    return {finding.code for finding in look_through(path, ("cytolabe-2",)) if finding.code != "N-DONOR-03"}


def names_of(data):
    names = {"CL:0000236": "B cell", "CL:0000084": "T cell", "CL:0000576": "monocyte"}
    return [names[term] for term in data.obs["cell_type_ontology_term_id"]]


def test_counts_times_a_number_are_no_counts(edits, planted):
    assert "E-COUNTS-21" in meanings(planted(edits.with_raw(lambda counts: edits.csr_matrix(counts * 3))))


def test_counts_that_lie_in_x_are_told_as_swapped(variant):
    assert "E-COUNTS-22" in meanings(variant("raw and X swapped"))


def test_a_layer_called_counts_that_holds_none_is_told(edits, planted):
    assert "W-COUNTS-23" in meanings(planted(lambda data: data.layers.__setitem__("counts", data.X.copy())))


def test_a_pool_of_donors_is_no_donor(edits, planted):
    assert "W-DONOR-02" in meanings(planted(edits.with_some("donor_id", "pooled")))


def test_a_name_that_is_not_that_of_its_id_is_told(edits, planted):
    right = planted(lambda data: data.obs.insert(0, "cell_type", names_of(data)))
    assert "W-CLASS-08" not in meanings(right)

    def wrong(data):
        names = names_of(data)
        data.obs["cell_type"] = ["T cell" if name == "monocyte" else name for name in names]

    assert "W-CLASS-08" in meanings(planted(wrong))


def test_a_column_that_tells_the_label_is_told_whatever_its_name(edits, planted):
    def encoded(data):
        codes = {"CL:0000236": "p1", "CL:0000084": "p2", "CL:0000576": "p3"}
        data.obs["plate"] = [codes[term] for term in data.obs["cell_type_ontology_term_id"]]

    assert "W-CLASS-09" in meanings(planted(encoded))
    halves = [f"p{number % 2}" for number in range(24)]
    assert "W-CLASS-09" not in meanings(planted(edits.with_column("plate", halves)))


def test_labels_that_are_numbers_of_levels_are_told(edits, planted):
    assert "W-CLASS-07" in meanings(planted(edits.with_column("author_cell_type", np.arange(24) % 3)))


def test_statements_that_exclude_each_other_are_told(edits, planted):
    nuclei = edits.all_of(
        edits.with_some("cell_type_ontology_term_id", "CL:0000233"), edits.with_column("suspension_type", "nucleus")
    )
    assert "W-MEANING-01" in meanings(planted(nuclei))
    prostate = edits.with_some("tissue_ontology_term_id", "UBERON:0002367", sex_ontology_term_id="PATO:0000383")
    assert "W-MEANING-01" in meanings(planted(prostate))
