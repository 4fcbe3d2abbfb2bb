"""The ledger of pretraining: what published weights have seen, as data with sources (rule R16).

Facts are in `pretraining.toml`; nothing in it is inferred. A corpus is found by the name of a model or by its own id
among the entries of a card's `pretraining`. That a data set is not named by a corpus says nothing: lists of members are
not public for most of them, and the same cells circulate under many names.
"""

import re
import tomllib
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Any

from cytolabe.records import ModelCard

__all__ = ["Corpus", "Member", "Source", "corpora", "corpora_of"]


@dataclass(frozen=True, kw_only=True)
class Source:
    """Where a fact is stated, and which."""

    url: str
    says: str


@dataclass(frozen=True, kw_only=True)
class Member:
    """A data set that is known to be in a corpus; `words` find it, `with_labels` if its labels were used."""

    name: str
    words: tuple[str, ...]
    with_labels: bool = False


@dataclass(frozen=True, kw_only=True)
class Corpus:
    """What weights were pretrained on.

    `stated` is the date that its authors give, as precise as they do; `not_after` a day by which it was surely closed,
    empty where none is known. `labels` says which labels training used; empty = none.
    """

    corpus_id: str
    title: str
    models: tuple[str, ...]
    stated: str
    not_after: str
    rule: str
    labels: str
    members: tuple[Member, ...]
    sources: tuple[Source, ...]


@cache
def corpora() -> dict[str, Corpus]:
    """Return every corpus of the ledger by its id."""
    text = resources.files("cytolabe.models").joinpath("pretraining.toml").read_text(encoding="utf-8")
    return {name: _corpus(name, table) for name, table in tomllib.loads(text).items()}


def corpora_of(card: ModelCard) -> tuple[Corpus, ...]:
    """Return the corpora that a card names: in its `pretraining`, or, where that names none, by its own name."""
    named = {_plain(entry) for entry in card.pretraining}
    by_id = tuple(corpus for name, corpus in corpora().items() if name in named)
    if by_id:
        return by_id
    # A file or a probe is called after its model: `precomputed:scGPT_CP`, `geneformer-v1-10m+knn`.
    own = _plain(card.name.rpartition(":")[2].partition("+")[0])
    return tuple(corpus for corpus in corpora().values() if own in corpus.models)


def _corpus(name: str, table: dict[str, Any]) -> Corpus:
    members = tuple(
        Member(name=one["name"], words=tuple(one["words"]), with_labels=one.get("with_labels", False))
        for one in table.get("member", ())
    )
    return Corpus(
        corpus_id=name,
        title=table["title"],
        models=tuple(table["models"]),
        stated=table["stated"],
        not_after=table["not_after"],
        rule=table["rule"],
        labels=table["labels"],
        members=members,
        sources=tuple(Source(**one) for one in table["source"]),
    )


def _plain(name: str) -> str:
    """Return a name in small letters, with dashes for everything that is no letter or digit."""
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")
