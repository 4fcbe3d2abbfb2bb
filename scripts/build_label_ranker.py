"""Build src/cytolabe/reconcile/ranking/label_ranker.json: the ranker and the calibration that the package ships.

    python scripts/build_label_ranker.py

Everything it learns from is made of CL (CC-BY-4.0, the pinned release) and the project's own seed table. Run it after a
change of the release, of the seed table or of the features; the same inputs give the same file on one platform.
"""

import json
from pathlib import Path

from cytolabe.ontology.graph import load_ontology
from cytolabe.randomness import rng_for
from cytolabe.reconcile.ranking.lexical import term_index_of
from cytolabe.reconcile.ranking.shipped import model_document
from cytolabe.reconcile.ranking.synthetic import synthetic_studies

SEED = 20261125
N_STUDIES = {"taught": 80, "unseen": 40}
LABELS_PER_STUDY = 40
TARGET = Path(__file__).parents[1] / "src" / "cytolabe" / "reconcile" / "ranking" / "label_ranker.json"


def main() -> None:
    """Write the file."""
    index = term_index_of(load_ontology("CL"))
    studies = {
        name: synthetic_studies(
            index, n_studies=n, labels_per_study=LABELS_PER_STUDY, rng=rng_for(SEED, "label ranker", name)
        )
        for name, n in N_STUDIES.items()
    }
    document = model_document(studies["taught"], studies["unseen"], index=index, seed=SEED)
    TARGET.write_text(json.dumps(document, separators=(",", ":"), sort_keys=True) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
