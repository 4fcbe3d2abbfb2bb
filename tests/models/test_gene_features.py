"""Features of genes against a plain loop over single cells, for both networks, in any order and any company."""

import json

import numpy as np
import pytest
from scipy.sparse import csr_matrix

torch = pytest.importorskip("torch", reason="the [models] extra is not installed")
pytest.importorskip("transformers", reason="the [models] extra is not installed")

from cytolabe.errors import ModelFailedError, UnmeasuredGeneError, UsageError  # noqa: E402
from cytolabe.models.extras import import_extra  # noqa: E402
from cytolabe.models.gene_features import MOST_GENES, AttentionRule, GeneSums, nearest_genes  # noqa: E402
from cytolabe.models.geneformer.checkpoint import CheckpointCard, save_pretrained  # noqa: E402
from cytolabe.models.geneformer.dictionaries import Dictionaries  # noqa: E402
from cytolabe.models.geneformer.network import blank_network  # noqa: E402
from cytolabe.models.geneformer.shapes import GeneformerShape  # noqa: E402
from cytolabe.models.protocols import AttendedCell, GeneAttender  # noqa: E402
from cytolabe.models.registry import make_model  # noqa: E402
from cytolabe.models.scgpt.checkpoint import fresh_network  # noqa: E402
from cytolabe.models.scgpt.configuration import ScgptConfig  # noqa: E402
from cytolabe.models.scopes import NO_CELLS  # noqa: E402

pytestmark = pytest.mark.models
CHOSEN = (3, 17, 4, 20, 33, 8)
MODELS = ("geneformer", "scgpt", "scgpt_pre")


@pytest.fixture
def fitted(tmp_path, make_query):
    """Return a function that gives a tiny model over the genes of the views, most of which it knows."""
    genes = make_query().genes

    def geneformer(folder):
        names = ["<pad>", "<mask>", "<cls>", "<eos>", *genes[:50]]
        known = Dictionaries(
            tokens={name: number for number, name in enumerate(names)},
            medians={gene: 1.0 + number % 3 for number, gene in enumerate(genes[:50])},
            digests={},
        )
        sizes = {"n_layers": 2, "width": 16, "n_heads": 2, "feed_forward": 24, "n_positions": 30}
        shape = GeneformerShape(n_tokens=len(names), **sizes)
        about = CheckpointCard(weights="", dictionaries={})
        save_pretrained(folder, blank_network(shape, seed=7), shape=shape, dictionaries=known, about=about)

    def scgpt(folder, norm):
        sizes = {
            "d_model": 16,
            "n_heads": 4,
            "d_hidden": 24,
            "n_layers": 2,
            "n_classes": 1,
            "mvc_style": "inner product",
        }
        network = fresh_network(ScgptConfig(n_tokens=53, pad_token=50, norm=norm, **sizes), seed=3)
        arguments = {"embsize": 16, "nheads": 4, "d_hid": 24, "nlayers": 2, "pre_norm": norm == "pre"}
        folder.mkdir()
        (folder / "args.json").write_text(json.dumps(arguments))
        (folder / "vocab.json").write_text(json.dumps({gene: number for number, gene in enumerate(genes[:50])}))
        weights = {name: weight.clone() for name, weight in network.state_dict().items()}
        (folder / "model.safetensors").write_bytes(import_extra("safetensors.torch").save(weights))

    def make(name, **options):
        folder = tmp_path / name
        if not folder.exists():
            geneformer(folder) if name == "geneformer" else scgpt(folder, "pre" if name == "scgpt_pre" else "post")
        model = make_model(name.removesuffix("_pre"), checkpoint=folder, panels="flag", **options)
        return model.over(genes, handed=NO_CELLS, seed=1)

    return make


@pytest.fixture
def view(make_query):
    """Return cells with few genes each; genes 17 and 20 stand in no cell together."""
    rng = np.random.default_rng(5)
    counts = rng.poisson(rng.uniform(0.05, 0.9, (14, 1)), (14, 60))
    counts[: len(counts) // 2, 17] = 0
    counts[len(counts) // 2 :, 20] = 0
    counts[:, 33] = 0
    counts[0, 17], counts[-1, 20], counts[1, [3, 4]] = 0, 0, 2
    counts[1, 20], counts[-2, 17], counts[5] = 1, 1, 0
    return make_query(14, counts=csr_matrix(counts, dtype=np.int64))


def taken(view, rows):
    """Return some cells of a view, in another order."""
    return type(view)(
        cell_ids=view.cell_ids[rows], counts=view.counts[rows], genes=view.genes, technical=view.technical.iloc[rows]
    )


def chosen_of(model, view):
    place = {view.genes[gene]: number for number, gene in enumerate(CHOSEN)}
    return np.array([place.get(gene, -1) for gene in model.known_genes])


def summed(model, blocks, *, layer=2, **rule):
    sums = GeneSums(len(CHOSEN), rule=AttentionRule(**rule))
    for block in blocks:
        for cell in model.attended(block, layer=layer):
            sums.add(cell, chosen_of(model, block))
    return sums.features()


def by_the_library(model, view, row, layer):
    """Return names of tokens, states and attention of one cell: the network's own forward pass, with its own softmax."""
    cell = taken(view, [row])
    if hasattr(model, "checkpoint"):
        tokens = model.tokenizer.tokenize(cell.counts)
        ids = tokens.tokens[0, : tokens.lengths[0]].astype(np.int64)
        names = {token: name for name, token in model.checkpoint.dictionaries.tokens.items()}
        model.network.set_attn_implementation("eager")
        with torch.no_grad():
            found = model.network(torch.as_tensor(ids)[None], output_hidden_states=True, output_attentions=True)
        model.network.set_attn_implementation("sdpa")
        return [names[token] for token in ids.tolist()], found.hidden_states[layer][0], found.attentions[layer - 1][0]
    cells = model.tokenizer.tokenize(cell.counts, cell_ids=cell.cell_ids, seed=1).padded(np.array([0]))
    names = {token: name for name, token in model.model.vocabulary.tokens.items()}
    network = model.model.network
    with torch.no_grad():
        states = network.valued(network.encoder(torch.as_tensor(cells.genes)), torch.as_tensor(cells.values))
        everybody = torch.ones(1, 1, 1, cells.genes.shape[1], dtype=torch.bool)
        for number, one in enumerate(network.transformer_encoder.layers[:layer]):
            if number == layer - 1:
                entering = one.norm1(states) if one.norm == "pre" else states
                query, key, _ = one.self_attn.projected(entering)
                attention = torch.softmax(query @ key.transpose(2, 3) / query.shape[-1] ** 0.5, dim=-1)[0]
            states = one(states, everybody, None)
    return [names[token] for token in cells.genes[0].tolist()], states[0], attention


def as_the_tutorial(attention):
    """Rank a head as the published tutorial does: along rows, then along columns, from 0, by the tokens of the cell."""
    n_tokens = attention.shape[-1]
    by_row = attention.argsort(-1).argsort(-1).astype(float)
    ranks = np.empty(by_row.shape)
    for head, column in np.ndindex(len(attention), n_tokens):
        values = by_row[head, :, column]
        ranks[head, :, column] = [(values < one).sum() + ((values == one).sum() - 1) / 2 for one in values]
    return ranks / n_tokens


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize(("layer", "measure", "heads"), [(2, "rank", ()), (2, "raw", (1,)), (1, "raw", ()), (1, "rank", (1, 0))])  # fmt: skip
def test_features_are_the_means_of_a_plain_loop_over_single_cells(fitted, view, name, layer, measure, heads):
    model = fitted(name)
    genes = [view.genes[gene] for gene in CHOSEN]
    states: dict[str, list] = {gene: [] for gene in genes}
    pairs: dict[tuple[str, str], list] = {(one, other): [] for one in genes for other in genes}
    for row in range(len(view.cell_ids)):
        names, after, attention = by_the_library(model, view, row, layer)
        weights = attention.numpy() if measure == "raw" else as_the_tutorial(attention.numpy())
        weights = weights[list(heads)].mean(axis=0) if heads else weights.mean(axis=0)
        place = {name: number for number, name in enumerate(names)}
        for gene in set(genes) & set(place):
            states[gene].append(after.numpy()[place[gene]])
        for (one, other), values in pairs.items():
            if one in place and other in place:
                values.append(weights[place[one], place[other]])
    found = summed(model, [view], layer=layer, measure=measure, heads=heads)
    for number, gene in enumerate(genes):
        assert found.n_cells[number] == len(states[gene])
        expected = np.mean(states[gene], axis=0) if states[gene] else np.full(16, np.nan)
        np.testing.assert_allclose(found.states[number], expected, atol=2e-6)
        for other_number, other in enumerate(genes):
            cells = pairs[gene, other]
            assert found.n_cells_of_pair[number, other_number] == len(cells)
            expected = np.mean(cells) if cells else np.nan
            np.testing.assert_allclose(found.attention[number, other_number], expected, atol=2e-6)
    assert max(len(cells) for cells in pairs.values()) > 3


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("measure", ["rank", "raw"])
def test_the_order_of_cells_and_the_blocks_they_come_in_move_no_bit(fitted, view, name, measure):
    model, order = fitted(name), np.random.default_rng(0).permutation(len(view.cell_ids))
    whole = summed(model, [view], measure=measure)
    others = [taken(view, order[:1]), taken(view, order[1:6]), taken(view, order[6:])]
    again = summed(model, others, measure=measure)
    np.testing.assert_array_equal(whole.states, again.states)
    np.testing.assert_array_equal(whole.attention, again.attention)
    np.testing.assert_array_equal(whole.n_cells_of_pair, again.n_cells_of_pair)


def test_a_pair_that_no_cell_reads_together_is_missing_and_not_zero(fitted, view):
    found = summed(fitted("geneformer"), [view], measure="raw")
    one, other, never = CHOSEN.index(17), CHOSEN.index(20), CHOSEN.index(33)
    assert found.n_cells[one] > 0 < found.n_cells[other]
    assert found.n_cells_of_pair[one, other] == 0
    assert np.isnan(found.attention[[one, other], [other, one]]).all()
    assert np.isnan(found.attention[never]).all()
    assert np.isnan(found.states[never]).all()
    seen = found.n_cells_of_pair > 0
    assert (found.attention[seen] > 0).all()
    assert np.isnan(found.attention[~seen]).all()


@pytest.mark.parametrize("name", MODELS)
def test_rows_of_the_table_are_those_of_the_network_and_genes_beyond_it_are_refused(fitted, view, name):
    model = fitted(name)
    assert isinstance(model, GeneAttender)
    assert model.known_genes == view.genes[:50]
    rows = model.embed_genes([view.genes[4], view.genes[2]])
    if name == "geneformer":
        table = model.network.bert.embeddings.word_embeddings.weight
        np.testing.assert_array_equal(rows, table[[8, 6]].detach().numpy())
    with pytest.raises(UnmeasuredGeneError, match="1 of 2 genes have no vector"):
        model.embed_genes([view.genes[4], view.genes[55]])
    with pytest.raises(UnmeasuredGeneError):
        next(model.attended(type(view)(**{**vars(view), "genes": view.genes[::-1]}), layer=1))


@pytest.mark.parametrize("name", MODELS)
def test_a_gene_is_read_in_the_cells_where_it_is_a_token(fitted, view, name):
    model = fitted(name)
    counted = np.zeros(len(model.known_genes), dtype=int)
    for cell in model.attended(view, layer=1):
        counted[cell.places[cell.places >= 0]] += 1
    np.testing.assert_array_equal(model.n_cells_reading(view), counted)
    short = fitted(name, max_length=8)
    assert short.n_cells_reading(view).sum() < counted.sum()


def test_random_weights_of_the_shape_give_other_features(fitted, view):
    learned, random = fitted("geneformer"), fitted("geneformer", weights="random")
    genes = view.genes[:5]
    assert not np.allclose(learned.embed_genes(genes), random.embed_genes(genes))
    assert not np.allclose(summed(learned, [view]).attention, summed(random, [view]).attention, equal_nan=True)


def cell_of(states, *, heads=1):
    n_tokens = len(states)
    part = np.zeros((heads, n_tokens, 2), dtype=np.float32)
    return AttendedCell(places=np.arange(n_tokens), states=np.asarray(states), queries=part, keys=part)


def test_what_cannot_be_summed_or_read_is_refused():
    identity = np.arange(2)
    for states, told in (([[np.nan], [1.0]], "not finite"), ([[2.0**31], [1.0]], "as large as")):
        with pytest.raises(ModelFailedError, match=told):
            GeneSums(2, rule=AttentionRule()).add(cell_of(states), identity)
    with pytest.raises(UsageError, match="heads 0 to 0"):
        GeneSums(2, rule=AttentionRule(heads=(1,))).add(cell_of([[1.0], [1.0]]), identity)
    with pytest.raises(UsageError, match=f"{MOST_GENES:,}"):
        GeneSums(MOST_GENES + 1, rule=AttentionRule())
    with pytest.raises(UsageError, match="none of rank"):
        AttentionRule(measure="mean")
    with pytest.raises(UsageError, match="name each once"):
        AttentionRule(heads=(0, 0))


def test_without_attention_only_states_and_cells_are_kept():
    sums = GeneSums(2, rule=AttentionRule(measure="none"))
    sums.add(cell_of([[1.0], [3.0]]), np.array([1, -1]))
    found = sums.features()
    assert found.attention is None
    assert found.heads == ()
    np.testing.assert_array_equal(found.states, [[np.nan], [1.0]])


def test_nearest_genes_are_those_of_the_largest_cosine_and_never_the_gene_itself():
    vectors = np.array([[1, 0], [2, 0.1], [0, 1], [0, 0], [np.nan, 1], [-1, 0]], dtype=np.float32)
    found = nearest_genes(vectors, n_neighbors=4)
    assert found.places[0].tolist() == [1, 2, 5, -1]
    assert found.places[2].tolist() == [1, 0, 5, -1]
    np.testing.assert_allclose(found.cosines[0, :3], [2 / np.sqrt(4.01), 0, -1], atol=1e-6)
    assert (found.places[[3, 4]] == -1).all()
    assert np.isnan(found.cosines[[3, 4]]).all()
    assert nearest_genes(vectors[:1], n_neighbors=2).places.tolist() == [[-1, -1]]
