"""Classes of genes: learned from the company that a gene keeps, for genes whose label was never read, beside honest floors."""

import dataclasses

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cytolabe.errors import RefusedError, UsageError
from cytolabe.models.extras import import_extra
from cytolabe.models.geneformer.cell_classes import MISSING
from cytolabe.models.geneformer.checkpoint import from_pretrained
from cytolabe.models.geneformer.gene_classes import GeneClassTraining, fit_gene_classes, gene_groups, labelled_genes
from cytolabe.models.geneformer.gene_scores import GeneQuestion, gene_folds, score_gene_classes
from cytolabe.models.geneformer.network import blank_network
from cytolabe.models.geneformer.source import GeneformerLearning
from cytolabe.models.geneformer.tokenizer import TokenizedCells

pytestmark = pytest.mark.models
QUICK = {"learning_rate": 1e-2, "warm_up": 5, "n_steps": 40, "minibatch": 16, "check_every": 20}


def gene(number):
    return f"ENSG{number:011d}"


@pytest.fixture
def cells():
    """Return cells of two kinds. Genes 0 to 39 stand in one kind and 40 to 79 in the other, as often and as high."""
    rng = np.random.default_rng(0)
    tokens, lengths = np.zeros((120, 48), dtype=np.int32), np.full(120, 22)
    for cell in range(120):
        own = 4 + rng.permutation(40)[:14] + (0 if cell % 2 else 40)
        others = 104 + (0 if cell % 2 else 100) + rng.permutation(30)[:6]
        tokens[cell, :22] = [2, *rng.permutation([*own, *others]), 3]
    return TokenizedCells(tokens=tokens, lengths=lengths), np.array([f"p{cell % 5}" for cell in range(120)])


@pytest.fixture
def planted():
    return {gene(number): "sensitive" if number < 40 else "not" for number in range(80)}


def test_the_head_at_every_position_is_that_of_transformers(needs_torch, make_shape, cells):
    torch, transformers = import_extra("torch"), import_extra("transformers")
    heads = import_extra("cytolabe.models.geneformer.heads")
    network = blank_network(make_shape(), seed=0)
    made = heads.make_heads(heads.GeneHead, network, seed=1, n_classes=2)
    other = transformers.BertForTokenClassification(transformers.BertConfig(**{**network.config.to_dict(), "num_labels": 2})).eval()  # fmt: skip
    other.bert.load_state_dict(made.bert.state_dict())
    other.classifier.load_state_dict(made.heads[0].state_dict())
    codes = np.full(304, MISSING)
    codes[4:60], codes[60:84] = 0, 1
    asked = GeneClassTraining(
        network=made, cells=cells[0], fit_codes=codes, held_out_codes=codes, fit_rows=np.arange(6), held_out_rows=np.arange(6),
        class_weights=np.ones(2, dtype=np.float32), size=4, seed=0,
    )  # fmt: skip
    tokens = torch.as_tensor(cells[0].tokens[:6].astype(np.int64))
    targets = torch.as_tensor(np.where(codes[tokens] == MISSING, -100, codes[tokens]))
    mask = torch.as_tensor(np.arange(48)[None] < cells[0].lengths[:6, None]).long()
    with torch.inference_mode():
        loss, n = asked.loss(np.arange(6), epoch=0)
        expected = other(tokens, attention_mask=mask, labels=targets).loss
        held = asked.held_out_loss()
    assert n == int((targets >= 0).sum())
    assert float(loss) / n == pytest.approx(float(expected), rel=1e-5) == pytest.approx(held, rel=1e-5)


def test_genes_are_told_by_the_company_they_keep_where_abundance_says_nothing(folder, cells, planted):
    learning = GeneformerLearning(checkpoint=folder, **QUICK)
    asked = GeneQuestion(labels={**planted, gene(299): "not", "ENSG99999999999": "not"}, n_folds=3)
    found = score_gene_classes(learning, from_pretrained(folder), cells[0], persons=cells[1], asked=asked, seed=1)
    by_name = {score.name: score for score in found.scores}
    assert by_name["geneformer"].macro_f1 > 0.9
    assert by_name["geneformer"].auroc > 0.95
    assert by_name["abundance"].macro_f1 < 0.7
    assert by_name["majority"].macro_f1 < 0.5
    assert len(by_name["geneformer"].by_fold) == 3
    assert (found.never_detected, found.without_token) == ((gene(299),), ("ENSG99999999999",))
    assert found.genes == tuple(sorted(planted))
    assert found.n_cells.tolist() == [int((cells[0].tokens == 4 + number).any(axis=1).sum()) for number in range(80)]
    assert any("training genes chose when to stop" in note for note in found.notes)


def test_shuffled_labels_of_genes_stay_at_the_floor(folder, cells, planted):
    shuffled = dict(zip(planted, np.random.default_rng(2).permutation(list(planted.values())).tolist(), strict=True))
    learning = GeneformerLearning(checkpoint=folder, **{**QUICK, "check_every": 5})
    asked = GeneQuestion(labels=shuffled, n_folds=2)
    found = score_gene_classes(learning, from_pretrained(folder), cells[0], persons=cells[1], asked=asked, seed=1)
    assert found.scores[0].macro_f1 < 0.65


def test_abundance_is_a_floor_that_finds_what_abundance_says(folder, cells):
    counts = np.bincount(cells[0].tokens.ravel(), minlength=304)
    rare = {gene(number): "rare" if counts[number + 4] < 21 else "common" for number in range(80)}
    learning = GeneformerLearning(checkpoint=folder, **{**QUICK, "n_steps": 2})
    found = score_gene_classes(learning, from_pretrained(folder), cells[0], persons=cells[1], asked=GeneQuestion(labels=rare, n_folds=2), seed=1)  # fmt: skip
    assert {score.name: score.macro_f1 for score in found.scores}["abundance"] > 0.9


def test_a_gene_whose_label_was_read_is_never_asked_about(folder, cells, planted):
    learning = GeneformerLearning(checkpoint=folder, **{**QUICK, "n_steps": 2})
    shown = {name: planted[name] for name in list(planted)[::2]}
    fitted = fit_gene_classes(learning, from_pretrained(folder), cells[0], persons=cells[1], labels=shown, seed=0)
    rest = sorted(set(planted) - set(shown))
    with pytest.raises(UsageError, match="would be memory"):
        fitted.predict(cells[0], [*rest, gene(0)])
    answer = fitted.predict(cells[0], [*rest, gene(299)])
    np.testing.assert_allclose(answer.probability[:-1].sum(axis=1), 1)
    assert (answer.n_cells[-1], np.isnan(answer.probability[-1]).all()) == (0, True)
    alone = [fitted.predict(TokenizedCells(tokens=cells[0].tokens[row : row + 1], lengths=cells[0].lengths[row : row + 1]), rest[:1]) for row in range(120)]  # fmt: skip
    own = [one.probability[0] for one in alone if one.n_cells[0]]
    np.testing.assert_allclose(np.mean(own, axis=0), answer.probability[0], atol=1e-5)


@given(n=st.integers(6, 60), n_folds=st.integers(2, 4), seed=st.integers(0, 99), with_groups=st.booleans())
def test_folds_keep_groups_together_and_have_every_class(n, n_folds, seed, with_groups):
    labels = {gene(number): "ab"[number % 2] for number in range(n * 4)}
    groups = {gene(number): f"g{number // 3}" for number in range(n)} if with_groups else None
    folds = gene_folds(labels, n_folds=n_folds, seed=seed, groups=groups)
    assert set(folds) == set(labels)
    for name in set((groups or {}).values()):
        assert len({folds[one] for one, group in groups.items() if group == name}) == 1
    counts = np.array([[sum(folds[g] == f and labels[g] == c for g in labels) for c in "ab"] for f in range(n_folds)])
    assert counts.min() > 0
    assert np.ptp(counts, axis=0).max() <= (3 if with_groups else 1)


def test_labels_that_say_nothing_or_two_things_are_refused_by_name(folder, cells, make_dictionaries, planted):
    known = make_dictionaries()
    assert labelled_genes({f"{gene(3)}.7": "a", "X": "b"}, dictionaries=known) == ({gene(3): "a"}, ("X",))
    with pytest.raises(UsageError, match=rf"{gene(3)} has an empty label"):
        labelled_genes({gene(3): ""}, dictionaries=known)
    with pytest.raises(UsageError, match="a gene has one label"):
        labelled_genes({gene(3): "a", f"{gene(3)}.1": "b"}, dictionaries=known)
    with pytest.raises(RefusedError, match=r"1 class\(es\) \(a\)"):
        gene_folds(dict.fromkeys(planted, "a"), n_folds=2, seed=0)
    with pytest.raises(RefusedError, match=r"too few.*: rare"):
        gene_folds({**planted, gene(90): "rare"}, n_folds=2, seed=0)
    with pytest.raises(UsageError, match="n_folds = 1"):
        gene_folds(planted, n_folds=1, seed=0)
    learning, model = GeneformerLearning(checkpoint=folder, **QUICK), from_pretrained(folder)
    never = {**dict.fromkeys(list(planted)[:9], "a"), gene(299): "b"}
    for labels, told in ((dict.fromkeys(planted, "a"), r"1 class\(es\)"), (never, r"1 of them have no gene that a cell has \(b\)")):  # fmt: skip
        with pytest.raises(RefusedError, match=told):
            fit_gene_classes(learning, model, cells[0], persons=cells[1], labels=labels, seed=0)


def test_another_division_of_genes_is_another_training(folder, cells, planted):
    learning = GeneformerLearning(checkpoint=folder, **{**QUICK, "n_steps": 1})
    fitted = fit_gene_classes(learning, from_pretrained(folder), cells[0], persons=cells[1], labels=planted, seed=0)
    codes = np.full(304, MISSING)
    codes[4:60] = 0
    base = GeneClassTraining(
        network=fitted.network, cells=cells[0], fit_codes=codes, held_out_codes=codes, fit_rows=np.arange(6), held_out_rows=np.arange(6),
        class_weights=np.ones(2, dtype=np.float32), size=4, seed=0,
    )  # fmt: skip
    other = codes.copy()
    other[5] = 1
    changed = [dataclasses.replace(base, fit_codes=other), dataclasses.replace(base, held_out_codes=other), dataclasses.replace(base, size=5)]  # fmt: skip
    assert len({base.identity, *(one.identity for one in changed)}) == 4


def test_groups_that_leave_a_fold_without_a_class_are_refused():
    sizes = {"g1": (1, 50), "g2": (0, 60), "g3": (1, 5)}
    members = [(group, kind) for group, (n_a, n_b) in sizes.items() for kind in "a" * n_a + "b" * n_b]
    labels = {gene(number): kind for number, (_, kind) in enumerate(members)}
    groups = {gene(number): group for number, (group, _) in enumerate(members)}
    with pytest.raises(RefusedError, match=r"left without a \(fold 0\)"):
        gene_folds(labels, n_folds=2, seed=0, groups=groups)


def test_a_retired_id_stays_in_the_group_of_its_family(make_dictionaries):
    known = make_dictionaries()
    assert gene_groups({f"{gene(3)}.7": "family", gene(4): "family"}, dictionaries=known) == {
        gene(3): "family",
        gene(4): "family",
    }
    with pytest.raises(UsageError, match="a gene has one"):
        gene_groups({gene(3): "x", f"{gene(3)}.1": "y"}, dictionaries=known)
