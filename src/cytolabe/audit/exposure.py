"""Had a model seen the test cells before? `in`, `out` or `unknown`; unknown is never called clean (rules R13, R16).

A model that is trained here has seen what its fit scopes say, so it is `out` by construction of the split. A model
with a history is judged by the ledger of pretraining (`models.pretraining`) and by what its card names:

Stored weights that were trained here name their cells by digest (`scopes` of the card): `out` where these are the
training cells of this fold, `unknown` where they are others. The fit scopes of the fold say so as well, and refuse.

* `in`: the data set is on the list, by its id or by the words that find a known member; labels that training used are
  named, because such a model has seen the answers, too;
* `out`: every corpus has a day by which it was surely closed, and the data set declares that all of its samples were
  collected after it (`collected` in the manifest). A date of publication proves nothing: old samples are published late;
* `unknown`: everything else. The same cells circulate under many names.
"""

import dataclasses
from collections.abc import Mapping, Sequence

from cytolabe.models.pretraining import Corpus, Member, Source, corpora, corpora_of
from cytolabe.models.tuned import UNLABELLED_CELLS
from cytolabe.records import UNKNOWN, DatasetRecord, Exposure, FitOnQuery, FitScope, ModelCard, Protocol

__all__ = ["exposure_of", "exposure_to_ledger", "is_trained_here"]

_TRAINED_HERE = (Protocol.SUPERVISED, Protocol.SELF_SUPERVISED, Protocol.CONTROL)
_SAID_OF_A_SOURCE = ("doi", "collection", "citation", "source_url", "version")
_A_DAY = len("2023-05-15")


def is_trained_here(card: ModelCard) -> bool:
    """Tell whether all that a model knows comes from the training side of the split.

    What is `fine_tuned` had a start; without a file of weights, and with unlabelled training cells to learn from, the start was made here, too.
    """
    made_its_start = card.protocol is Protocol.FINE_TUNED and not card.weights_digest
    is_of_here = card.protocol in _TRAINED_HERE or (made_its_start and UNLABELLED_CELLS in card.capabilities)
    return is_of_here and not card.pretraining and (not card.weights_digest or bool(card.scopes))


def exposure_of(
    card: ModelCard,
    datasets: Mapping[str, int] | Sequence[str],
    *,
    train: Sequence[str],
    train_scope: FitScope | None = None,
    records: Mapping[str, DatasetRecord] | None = None,
) -> tuple[Exposure, ...]:
    """Return the exposure of a model to each test data set, sorted by data set.

    Parameters
    ----------
    card
        The model's card, with its pretraining manifest.
    datasets
        Data sets with cells on the test side, and how many.
    train
        Data sets with cells on the training side.
    train_scope
        Cells of the training side, by number and digest: the evidence, and what scopes of stored weights must name.
    records
        What is known of the data sets: titles, citations, when samples were collected.
    """
    sizes = datasets if isinstance(datasets, Mapping) else dict.fromkeys(datasets, 0)
    known = corpora_of(card)
    found = []
    for name in sorted(sizes):
        status, evidence = _judged(card, name, known=known, record=(records or {}).get(name))
        if is_trained_here(card):
            status, evidence = _trained_here(card, name, train=train, scope=train_scope)
        found.append(Exposure(model=card.name, dataset_id=name, status=status, evidence=evidence, n_cells=sizes[name]))
    return tuple(found)


def exposure_to_ledger(datasets: Mapping[str, int], records: Mapping[str, DatasetRecord]) -> tuple[Exposure, ...]:
    """Return the exposure of every published corpus of the ledger to data sets, whoever may be scored on them."""
    return tuple(
        dataclasses.replace(exposure, model=corpus.models[0])
        for corpus in corpora().values()
        for exposure in exposure_of(_ledger_card(corpus), datasets, train=(), records=records)
    )


def _ledger_card(corpus: Corpus) -> ModelCard:
    return ModelCard(
        name=corpus.corpus_id, title=corpus.title, gene_ids=UNKNOWN, value_semantics=UNKNOWN, capabilities=(),
        protocol=Protocol.ZERO_SHOT, fit_on_query=FitOnQuery.NONE, unit_of_inference=UNKNOWN, determinism=UNKNOWN,
        licence=UNKNOWN, source=corpus.sources[0].url, pretraining=(corpus.corpus_id,),
    )  # fmt: skip


def _trained_here(card: ModelCard, dataset_id: str, *, train: Sequence[str], scope: FitScope | None) -> tuple[str, str]:
    others = [one for one in card.scopes if scope is None or one.cells_digest != scope.cells_digest]
    if others:
        return "unknown", (
            f"its weights were trained here on {others[0].n_cells} cells (digest {others[0].cells_digest[:19]}), which are "
            "not the training cells of this fold"
        )
    cells = "the training cells" if scope is None else f"{scope.n_cells} training cells"
    beside = "; other cells of this data set are among them" if dataset_id in train else ""
    return "out", f"trained here, on {cells} without the test component{beside}"


def _judged(
    card: ModelCard, dataset_id: str, *, known: Sequence[Corpus], record: DatasetRecord | None
) -> tuple[str, str]:
    if dataset_id in card.pretraining:
        return "in", "the data set is in the model's pretraining manifest"
    for corpus in known:
        member = _member(corpus, dataset_id, record)
        if member is not None:
            labels = f", and its labels were used ({corpus.labels})" if member.with_labels else ""
            return "in", f"{member.name} is in {corpus.title}{labels}; {_place(corpus.sources[0])}"
    collected = record.declared.get("collected", "") if record is not None else ""
    # A file that was made elsewhere may be called anything: its name can convict it, and never acquit it.
    closed = [corpus.not_after for corpus in known if UNKNOWN not in card.pretraining]
    if closed and all(closed) and len(collected) == _A_DAY and collected > max(closed):
        last = max(known, key=lambda corpus: corpus.not_after)
        return "out", (
            f"all samples collected since {collected}, as declared; {last.title} was closed by {last.not_after}: "
            f"{_place(last.sources[-1])}"
        )
    return "unknown", _why_unknown(card, known, collected=collected)


def _place(source: Source) -> str:
    """Return an address as words: a report holds no link."""
    return source.url.removeprefix("https://")


def _member(corpus: Corpus, dataset_id: str, record: DatasetRecord | None) -> Member | None:
    """Return the known member of a corpus that a data set is, by its id or by what is said of it."""
    said = [dataset_id]
    if record is not None:
        said += [record.title, record.study, *(record.declared.get(key, "") for key in _SAID_OF_A_SOURCE)]
    text = " | ".join(said).lower()
    return next((member for member in corpus.members if any(word in text for word in member.words)), None)


def _why_unknown(card: ModelCard, known: Sequence[Corpus], *, collected: str) -> str:
    if not known:
        if card.pretraining:
            return (
                f"not among the {len(card.pretraining)} entries of the pretraining manifest, but no dated evidence that "
                "the samples are younger than the corpus"
            )
        return "the model has a history and no pretraining manifest"
    told = "; ".join(f"{one.title}: {one.rule}" for one in known)
    if not all(one.not_after for one in known):
        return f"{told}. No date by which it was closed is known"
    closed = max(one.not_after for one in known)
    when = (
        f"collected since {collected}, which is not after it"
        if collected
        else "when they were collected is not declared"
    )
    return f"{told}. Closed by {closed}; of the samples, {when}"
