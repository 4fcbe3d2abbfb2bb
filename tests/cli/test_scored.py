"""`cytolabe reconcile --score` by command, on made-up tables: one that teaches itself, and small ones."""

import csv
import json

import numpy as np
import pytest

from cytolabe.ontology.graph import load_ontology
from cytolabe.randomness import rng_for
from cytolabe.reconcile.ranking import ranker
from cytolabe.reconcile.scored import FURTHER_PROTOCOLS, folds, read_label_table, scoring
from cytolabe.reconcile.scored.ladder import RUNGS

T, CD4, B = "CL:0000084", "CL:0000624", "CL:0000236"
MEASURES = ("hit_at_1", "hit_at_5", "lineage_compatible")
COLUMNS = ("author_label", "cl_id", "source", "src_family", "tissue")
LETTERS = "bcdfghjklmnpqrstvwxz"
ORGANS = ("blood", "lung", "kidney", "liver", "skin of body", "colon", "retina", "pancreas", "heart", "brain", "ovary")


def write_table(path, rows):
    """Write rows of `COLUMNS` as a table."""
    with path.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([COLUMNS, *rows])
    return path


def made_up_rows(rng):
    """Return 523 rows of 13 sources: eight labs that share some slang, four levels of one reference, and nonsense.

    Slang teaches that what others said of a label counts. `lab:absurd` calls random terms by letters that nobody else uses,
    so that nothing but its own rows can tell them: a memory that held these would answer all of them.
    """
    ontology = load_ontology()
    terms = sorted(ontology.descendants("CL:0000255"))
    slang = [(_nonsense(rng), terms[at]) for at in rng.choice(len(terms), size=20, replace=False)]
    rows = []
    for lab in range(8):
        own = [slang[at] for at in rng.choice(len(slang), size=10, replace=False)]
        rows += [(label, term, f"lab:{lab}", "labs", ORGANS[lab]) for label, term in own]
        chosen = rng.choice(len(terms), size=31, replace=False)
        rows += [
            (_written(ontology.name(terms[at]), rng), terms[at], f"lab:{lab}", "labs", ORGANS[lab]) for at in chosen
        ]
    shared = [terms[at] for at in rng.choice(len(terms), size=38, replace=False)]
    labels = [_written(ontology.name(term), rng) for term in shared]
    for level in range(4):
        rows += [
            (label, term, f"reference:{level}", "reference", f"{ORGANS[8 + level // 2]}_L{level}")
            for label, term in zip(labels, shared, strict=True)
        ]
    for at in rng.choice(len(terms), size=43, replace=False):
        rows.append((_nonsense(rng), terms[at], "lab:absurd", "labs", ORGANS[10]))
    return rows


def _nonsense(rng):
    word = "".join(rng.choice(list(LETTERS), size=9))
    return f"{word[:4]} {word[4:]}"


def _written(name, rng):
    """Return a name as a lab may write it: verbatim, shortened, turned, misspelled or numbered."""
    words = name.replace(",", "").split()
    turn = rng.integers(6)
    if turn == 0:
        return name
    if turn == 1 and len(words) > 2:
        return " ".join(words[1:])
    if turn == 2:
        return " ".join(reversed(words))
    if turn == 3:
        at = int(rng.integers(1, max(len(name) - 1, 2)))
        return name[:at] + name[at + 1 :]
    return f"{name.removesuffix(' cell')} {rng.integers(1, 9)}"


@pytest.fixture(scope="session")
def table(tmp_path_factory):
    return write_table(tmp_path_factory.mktemp("scored") / "labels.csv", made_up_rows(rng_for(5, "table")))


class Watch:
    """What the scorer asked of the memory, and how it halved its teachers."""

    def __init__(self):
        self.protocol, self.asked, self.halves, self.recurating = "", [], [], set()

    def folded(self, inner):
        def watched(trial, fold, protocol):
            self.protocol = protocol
            return inner(trial, fold, protocol)

        return watched

    def weigh(self, inner):
        def watched(bench, groups, **options):
            sources = np.array(bench.query.source)
            rows = [(set(sources[group.rows].tolist()), set(group.barred)) for group in groups]
            self.asked += [(self.protocol, *row) for row in rows]
            return inner(bench, groups, **options)

        return watched

    def halved(self, inner):
        def watched(trial, teaching):
            found = inner(trial, teaching)
            families = np.array([trial.kinship.family[trial.table.source[int(row)]] for row in teaching.rows])
            self.recurating |= set(trial.kinship.recurating)
            self.halves.append((families, found))
            return found

        return watched


@pytest.fixture(scope="session")
def scored(table, call):
    """The command on a table that teaches itself, with fewer trees and larger folds; document, and what was watched."""
    watch = Watch()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ranker, "_TREES", {**ranker._TREES, "max_iter": 30})
        patch.setattr(folds, "_LARGEST_FOLD", 0.3)
        patch.setattr(scoring, "_weighed_fold", watch.folded(scoring._weighed_fold))
        patch.setattr(scoring, "weigh", watch.weigh(scoring.weigh))
        patch.setattr(scoring, "_halves", watch.halved(scoring._halves))
        called = call("reconcile", "--score", table, "--json")
    assert called.code == 0, called.err
    return called.document, watch


@pytest.fixture(scope="session")
def document(scored):
    return scored[0]


def test_a_table_of_many_studies_teaches_itself_and_says_so(document):
    assert (document["basis"], document["taught_by"]) == ("leave_study_out", "table")
    assert document["n"] == 523
    assert document["recurating_families"] == ["reference"]
    assert sum(fold["n"] for fold in document["folds"]) == document["n"]
    assert all(0 < fold["n_train"] < document["n"] for fold in document["folds"])


def test_every_mapper_and_protocol_is_measured_on_the_same_rows(document):
    assert set(document["baselines"]) == set(RUNGS)
    assert set(document["protocols"]) == set(FURTHER_PROTOCOLS)
    beside = [*document["baselines"].values(), *document["protocols"].values(), document["shipped"]]
    assert {measures["n"] for measures in beside} == {document["n"]}
    for measures in [document, *beside]:
        assert 0 <= measures["hit_at_1"] <= measures["hit_at_5"] <= 1
        assert measures["hit_at_1"] <= measures["lineage_compatible"] <= 1


def test_macro_is_the_mean_over_sources(document):
    entries = document["by_source"]
    assert document["macro"]["n_sources"] == len(entries) == 13
    assert sum(entry["n"] for entry in entries) == document["n"]
    for measure in MEASURES:
        assert document["macro"][measure] == pytest.approx(np.mean([e[measure] for e in entries]), abs=1e-4)
        weighed = sum(e[measure] * e["n"] for e in entries) / document["n"]
        assert document[measure] == pytest.approx(weighed, abs=1e-4)


def test_names_of_the_ontology_and_other_labels_are_all_rows(document):
    verbatim, other = document["verbatim_names"], document["without_verbatim_names"]
    assert verbatim["n"] + other["n"] == document["n"]
    assert min(verbatim["n"], other["n"]) > 50
    for measure in MEASURES:
        both = verbatim[measure] * verbatim["n"] + other[measure] * other["n"]
        assert document[measure] == pytest.approx(both / document["n"], abs=1e-4)


def test_precision_at_coverage_goes_from_the_most_certain_tenth_to_all_rows(document):
    curve = document["precision_at_coverage"]
    assert [point["coverage"] for point in curve] == [round(0.1 * step, 1) for step in range(1, 11)]
    assert curve[-1]["exact"] == document["hit_at_1"]
    assert curve[-1]["lineage_compatible"] == document["lineage_compatible"]
    # Right rows among the most certain n never become fewer as n grows, nor more than the rows that were added.
    n = [round(point["coverage"] * document["n"]) for point in curve]
    right = [point["exact"] * rows for point, rows in zip(curve, n, strict=True)]
    assert all(-0.1 <= more <= rows + 0.1 for more, rows in zip(np.diff(right), np.diff(n), strict=True))
    assert curve[0]["exact"] > curve[-1]["exact"]


def test_what_is_accepted_is_told_over_all_and_by_source(document):
    auto = document["auto"]
    assert auto["n"] == sum(entry["auto"]["n"] for entry in document["by_source"]) > 0
    assert auto["coverage"] == pytest.approx(auto["n"] / document["n"], abs=1e-4)
    assert auto["exact"] <= auto["lineage_compatible"]
    assert auto["exact"] > document["hit_at_1"]


def test_both_probabilities_are_held_against_what_happened(document):
    for measures in (document, document["shipped"], document["verbatim_names"], document["without_verbatim_names"]):
        assert 0 < measures["ece"] < 0.5
        assert 0 < measures["ece_lineage"] < 0.5
    assert document["ece"] != document["ece_lineage"]


def test_answers_that_a_study_alone_knows_are_not_known_when_it_is_scored(document):
    absurd = next(entry for entry in document["by_source"] if entry["source"] == "lab:absurd")
    assert absurd["n"] == 43
    assert absurd["hit_at_5"] <= 0.05
    assert absurd["auto"]["coverage"] < 0.2 < document["auto"]["coverage"]


def test_no_row_asks_a_memory_that_holds_its_own_study(scored):
    _, watch = scored
    assert len(watch.asked) > 50
    assert [sources - barred for _, sources, barred in watch.asked if sources - barred] == []
    levels = {f"reference:{level}" for level in range(4)}
    strict = [(sources, barred) for protocol, sources, barred in watch.asked if protocol != "leave_one_study_out"]
    assert all(levels <= barred for sources, barred in strict if sources & levels)


def test_a_family_that_recurates_itself_is_in_one_half_of_the_calibration(scored):
    _, watch = scored
    assert watch.recurating == {"reference"}
    halves = [set(found[families == "reference"].tolist()) for families, found in watch.halves]
    assert {True, False} == {bool(half) for _, found in watch.halves for half in found}
    assert max(len(half) for half in halves) == 1


@pytest.fixture
def few(tmp_path):
    """The rows of three labs."""
    return write_table(tmp_path / "few.csv", made_up_rows(rng_for(5, "table"))[: 3 * 41])


def test_a_large_table_is_answered_by_the_model_of_the_package_on_request(few, call, monkeypatch):
    monkeypatch.setattr(scoring, "_LEAST_ROWS", 120)
    monkeypatch.setattr(scoring, "_LEAST_SOURCES", 3)
    assert scoring.can_teach_itself(read_label_table(few, ontology=load_ontology()))
    found = call("reconcile", "--score", few, "--basis", "shipped", "--json").document
    assert (found["basis"], found["taught_by"], found["folds"]) == ("shipped", "package", [])
    assert found["protocols"] == {}
    assert {key: found[key] for key in found["shipped"]} == found["shipped"]
    assert sum(entry["n"] for entry in found["by_source"]) == found["n"] == 123


@pytest.fixture
def small(tmp_path):
    rows = [
        ("CD4 T", CD4, "a", "f", "blood"), ("B cells", B, "a", "f", "blood"), ("T cell", T, "b", "g", ""),
        ("nonsense", "CL:9999999", "b", "g", ""),
    ]  # fmt: skip
    return write_table(tmp_path / "small.csv", rows)


def test_a_small_foreign_table_is_answered_by_the_model_of_the_package(small, call):
    found = call("reconcile", "--score", small, "--json").document
    assert (found["basis"], found["taught_by"], found["n"]) == ("shipped", "package", 3)
    assert found["rows_set_aside"]["unusable"] == 1
    assert (found["verbatim_names"]["n"], found["without_verbatim_names"]["n"]) == (1, 2)


def test_the_terminal_says_who_answered_and_how_sure_it_was(small, call):
    called = call("reconcile", "--score", small)
    assert called.code == 0
    lines = called.out.splitlines()
    assert "headline: the model of the package, which has seen nobody's table" in lines
    assert any(line.startswith("headline: shipped ") for line in lines)
    assert any(line.split()[:7] == ["its", "labels", "that", "are", "CL", "names", "1"] for line in lines)
    assert any(line.split()[:4] == ["its", "other", "labels", "2"] for line in lines)
    at = next(nth for nth, line in enumerate(lines) if line.startswith("most certain share"))
    assert [line.split()[0] for line in lines[at + 2 :]] == [str(step / 10) for step in range(1, 11)]


def test_a_table_given_to_train_teaches_and_is_named_as_the_teacher(few, tmp_path, call, monkeypatch):
    monkeypatch.setattr(ranker, "_TREES", {**ranker._TREES, "max_iter": 5})
    monkeypatch.setattr("cytolabe.flow.scored_labels.FURTHER_PROTOCOLS", ())
    asked = write_table(
        tmp_path / "asked.csv", [("B cells", B, "new", "other", "blood"), ("Tc", T, "new", "other", "")]
    )
    called = call("reconcile", "--score", asked, "--train", few, "--json")
    found = called.document
    assert (found["basis"], found["taught_by"]) == ("leave_study_out", "train")
    assert found["folds"] == [{"n": 2, "n_train": 123}]


def test_rows_without_teachers_are_said_to_be_answered_by_the_package(small, tmp_path, call):
    alone = write_table(tmp_path / "alone.csv", [("CD4 T", CD4, "a", "f", "blood")])
    called = call("reconcile", "--score", small, "--train", alone)
    assert called.code == 0
    assert "a model of the studies of --train" in called.out
    assert "3 of 3 rows had too few teachers: the model of the package answered them" in called.out


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--basis", "mine"], "there is auto and shipped"),
        (["--basis", "shipped", "--train", "other.csv"], "learns from no table"),
    ],
)
def test_a_basis_that_cannot_be_is_refused(small, call, words, told):
    called = call("reconcile", "--score", small, *words, "--json")
    assert called.code == 2
    assert told in json.loads(called.out)["error"]["message"]


def test_a_basis_without_a_table_is_refused(call, tmp_path):
    called = call("reconcile", tmp_path, "--basis", "shipped")
    assert called.code == 2
    assert "--basis" in called.err
