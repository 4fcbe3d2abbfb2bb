"""Labels as laboratories would write them, made of what the project may ship: CL's names and its own seed table.

The shipped ranker must not hold anybody's table. So it learns from terms whose names, exact synonyms and curated
spellings are cut, shortened, turned around, numbered and tagged as contributors do it. Studies are imitated too: a study
draws most of its labels from one branch of CL, because what stands beside a label is evidence.

**Curators are noisy, so the truth is.** When several sources map one label, the second chooses the same term in 62 to 69 % of
cases and the same lineage in 88 to 92 %; of labels that are a name of CL word by word, 86 % go to that very term. Without this
noise a model would be sure of itself where no expert is. A noisy row goes to a parent, a child or a neighbor.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np

from cytolabe.reconcile.candidates import seed_table
from cytolabe.reconcile.ranking.lexical import TermIndex
from cytolabe.reconcile.ranking.memory import Query

__all__ = ["SyntheticStudies", "synthetic_studies"]

_NOISE_VERBATIM = 0.14
_NOISE_OTHER = 0.33
_NOISE_ON_LINEAGE = 0.7
_FROM_BRANCH = 0.75
_NAMES_ITS_ORGAN = 0.8
_BRANCH_SIZE = (25, 400)
_Value = TypeVar("_Value")
_GENE_LETTERS = "ABCDEFGHIKLMNPRSTX"


@dataclass(frozen=True, kw_only=True, eq=False)
class SyntheticStudies:
    """Made-up labels of made-up studies, and the position of the term that a noisy expert chose."""

    query: Query
    term: np.ndarray


def synthetic_studies(
    index: TermIndex, *, n_studies: int, labels_per_study: int, rng: np.random.Generator
) -> SyntheticStudies:
    """Draw studies; the same generator state gives the same studies."""
    spellings = _spellings(index)
    common = sorted(spellings)
    branches = _branches(index)
    shortened = _shortened(index)
    organs = sorted(index.lexicon.organ_words)
    label, tissue, source, term = [], [], [], []
    for study in range(n_studies):
        branch = branches[int(rng.integers(len(branches)))]
        # Most labels of a study do not name its organ and are no special kind of that organ either.
        organ = _choice(organs, rng) if rng.random() < _NAMES_ITS_ORGAN else ""
        inside = [t for t in branch if t in spellings] + list(branch)[:: 1 + len(branch) // 40]
        for _ in range(labels_per_study):
            drawn = _choice(inside, rng) if rng.random() < _FROM_BRANCH else _choice(common, rng)
            text, scope = _spelled(drawn, spellings, index=index, rng=rng)
            text, scope = _in_its_organ(text, scope or organ, index=index, rng=rng)
            written = _written(text, shortened, index=index, rng=rng)
            verbatim = written.lower() == index.ontology.name(index.terms[drawn]).lower()
            label.append(written)
            tissue.append(scope)
            source.append(f"synthetic:{study}")
            term.append(_noisy(drawn, index, rng=rng, noise=_NOISE_VERBATIM if verbatim else _NOISE_OTHER))
    query = Query(label=tuple(label), tissue=tuple(tissue), source=tuple(source))
    return SyntheticStudies(query=query, term=np.array(term, dtype=np.int64))


def _spellings(index: TermIndex) -> dict[int, list[tuple[str, str]]]:
    """Return the curated spellings of each term with their scope."""
    found: dict[int, list[tuple[str, str]]] = {}
    for scope, lines in seed_table()["labels"].items():
        for key, texts in lines.items():
            at = index.position.get(index.ontology.resolve(key.split(" ", 1)[0]))
            if at is not None:
                found.setdefault(at, []).extend((str(text), "" if scope == "any" else scope) for text in texts)
    return found


def _branches(index: TermIndex) -> list[tuple[int, ...]]:
    least, most = _BRANCH_SIZE
    found = []
    for term in index.terms:
        below = index.ontology.descendants(term)
        if least <= len(below) <= most:
            found.append(tuple(sorted(index.position[t] for t in below if t in index.position)))
    return found


def _shortened(index: TermIndex) -> dict[str, str]:
    """Return words of names with the shortest abbreviation that the seed table reads as them."""
    by_length = sorted(index.lexicon.words.items(), key=lambda item: (-len(item[0]), item[0]))
    return {full: short for short, full in by_length}


def _spelled(
    term: int, spellings: Mapping[int, Sequence[tuple[str, str]]], *, index: TermIndex, rng: np.random.Generator
) -> tuple[str, str]:
    curie = index.terms[term]
    names = [index.ontology.name(curie), *index.ontology.synonyms(curie)]
    curated = spellings.get(term, ())
    if curated and rng.random() < 0.5:
        return curated[int(rng.integers(len(curated)))]
    text = names[0] if rng.random() < 0.6 else names[int(rng.integers(len(names)))]
    return text, (curated[0][1] if curated and rng.random() < 0.5 else "")


def _in_its_organ(text: str, scope: str, *, index: TermIndex, rng: np.random.Generator) -> tuple[str, str]:
    """Return a text that leaves out the organ which its tissue says, as most contributors do, and the tissue."""
    words = text.replace(",", "").split()
    for organ, said in index.lexicon.organ_words.items():
        rest = [word for word in words if word.lower() not in said and word != "of"]
        if 1 < len(rest) < len(words) and rng.random() < 0.3:
            return (" ".join(rest) if rng.random() < 0.7 else text), organ
    return text, scope


def _written(text: str, shortened: Mapping[str, str], *, index: TermIndex, rng: np.random.Generator) -> str:
    """Return a text as a contributor might write it: up to four changes."""
    words = text.replace(",", "").split()
    if len(words) > 1 and rng.random() < 0.5:
        words = [word for word in words if word != "cell"] or words
    elif rng.random() < 0.5:
        words[-1] += "s"
    words = [shortened[w] if w in shortened and rng.random() < 0.35 else w for w in words]
    words = [w.replace("-positive", "+") if rng.random() < 0.7 else w for w in words]
    if len(words) > 2 and rng.random() < 0.3:
        words.pop(int(rng.integers(len(words))))
    if len(words) > 1 and rng.random() < 0.15:
        words = [*words[1:], words[0]]
    if rng.random() < 0.12:
        at = int(rng.integers(len(words)))
        words[at] = words[at][: int(rng.integers(3, 6))]
    if len(words) > 2 and rng.random() < 0.08:
        words = ["".join(word[0] for word in words).upper()]
    if rng.random() < 0.15:
        words.insert(0 if rng.random() < 0.6 else len(words), _choice(sorted(index.lexicon.modifiers), rng))
    if rng.random() < 0.15:
        letters = "".join(_choice(list(_GENE_LETTERS), rng) for _ in range(int(rng.integers(3, 5))))
        words.append(f"{letters}{int(rng.integers(1, 20))}{'+' if rng.random() < 0.5 else ''}")
    if rng.random() < 0.15:
        words.append(str(int(rng.integers(1, 12))))
    glue = "_" if rng.random() < 0.15 else " "
    return glue.join(words) or text


def _noisy(term: int, index: TermIndex, *, rng: np.random.Generator, noise: float) -> int:
    if rng.random() >= noise:
        return term
    ontology, curie = index.ontology, index.terms[term]
    near = [*ontology.parents(curie), *ontology.children(curie)]
    if rng.random() >= _NOISE_ON_LINEAGE:
        near = [c for parent in ontology.parents(curie) for c in ontology.children(parent) if c != curie]
    known = sorted({index.position[t] for t in near if t in index.position})
    return _choice(known, rng) if known else term


def _choice(values: Sequence[_Value], rng: np.random.Generator) -> _Value:
    return values[int(rng.integers(len(values)))]
