"""The model in the package: fitted by `scripts/build_label_ranker.py` on made-up labels, kept as JSON text.

It names the release of CL that it was made for and the features in their order, and refuses to serve another: a
feature that moved would make every answer wrong without a sign.
"""

import json
from functools import lru_cache
from importlib import resources
from typing import Any

import numpy as np

from cytolabe.errors import IntegrityError
from cytolabe.ontology.graph import Ontology
from cytolabe.provenance.canonical import digest_of
from cytolabe.reconcile.ranking.calibration import MANY_STUDIES, Calibrator, fit_calibrator, ranked_of
from cytolabe.reconcile.ranking.engine import FEATURES, Group, bench_of, weigh
from cytolabe.reconcile.ranking.lexical import TermIndex
from cytolabe.reconcile.ranking.memory import seed_entries
from cytolabe.reconcile.ranking.ranker import Ranker, fit_ranker
from cytolabe.reconcile.ranking.synthetic import SyntheticStudies

__all__ = ["model_document", "serves", "shipped_digest", "shipped_model"]

_FILE = "label_ranker.json"


def serves(ontology: Ontology) -> bool:
    """Return whether the model of the package was made for this release and these features."""
    document = _document()
    return document["ontology_release"] == ontology.release and tuple(document["features"]) == FEATURES


def shipped_digest() -> str:
    """Return the digest of the model of the package: what proposed terms rest on."""
    return str(_document()["digest"])


@lru_cache(maxsize=2)
def shipped_model(ontology: Ontology) -> tuple[Ranker, Calibrator]:
    """Return the ranker and the calibration of the package.

    Raises
    ------
    IntegrityError
        If they were made for another release or other features, or the file was changed.
    """
    document = _document()
    if not serves(ontology):
        msg = (
            f"{_FILE} was made for {document['ontology_release']} and {len(document['features'])} features, not for "
            f"{ontology.release} and {len(FEATURES)}. Run scripts/build_label_ranker.py."
        )
        raise IntegrityError(msg)
    return Ranker.of(document["ranker"]), Calibrator.of(document["calibrator"])


@lru_cache(maxsize=1)
def _document() -> dict[str, Any]:
    """Return the file as it is; one that was changed is not read."""
    text = resources.files("cytolabe.reconcile.ranking").joinpath(_FILE).read_text(encoding="utf-8")
    document: dict[str, Any] = json.loads(text)
    if document["digest"] != digest_of({key: value for key, value in document.items() if key != "digest"}):
        msg = f"{_FILE} does not have the digest that it states. Install the package anew."
        raise IntegrityError(msg)
    return document


def model_document(
    taught: SyntheticStudies, unseen: SyntheticStudies, *, index: TermIndex, seed: int
) -> dict[str, object]:
    """Fit on one set of studies, calibrate on another, and return the document to ship."""
    weighed = [weigh(bench, _by_source(bench.query.source)) for bench in (
        bench_of(studies.query, seed_entries(index), index=index) for studies in (taught, unseen)
    )]  # fmt: skip
    first, second = weighed
    ranker = fit_ranker(first.features, first.pairs.term == taught.term[first.pairs.row], pairs=first.pairs, seed=seed)
    ranker = Ranker.of(ranker.document())
    ranked = ranked_of(second, ranker.scores(second.features, second.pairs), index=index)
    top = ranked.terms[:, 0]
    above = np.asarray(index.closure[unseen.term, top]).ravel() + np.asarray(index.closure[top, unseen.term]).ravel()
    study = np.unique(np.array(unseen.query.source)[ranked.rows], return_inverse=True)[1].astype(np.int64)
    calibrator = fit_calibrator(ranked.facts, top == unseen.term, above > 0, study=study, strength=MANY_STUDIES)
    body: dict[str, object] = {
        "ontology_release": index.ontology.release,
        "features": list(FEATURES),
        "ranker": ranker.document(),
        "calibrator": calibrator.document(),
    }
    return {**body, "digest": digest_of(body)}


def _by_source(sources: tuple[str, ...]) -> list[Group]:
    names = np.array(sources)
    return [Group(rows=np.flatnonzero(names == name), barred=frozenset()) for name in sorted(set(sources))]
