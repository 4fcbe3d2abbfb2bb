"""Measure what expression says of labels whose terms are known: a study file with at least three labelled studies.

    python scripts/measure_expression.py studies/pbmc.toml [--data DIR]

Truth is what the study's words and declarations map the labels to. A pretended swap gives the cells of one label the name of
another one of its data set that is on another lineage. Each study is judged by a curve that was fitted on the labels of the others.
Printed are that table, the curve over all studies (the constants of `reconcile.expression`), and how often the nearest label is right.
"""

import argparse
import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score

from cytolabe.config.study import Study, read_study
from cytolabe.flow.contribute import contribute
from cytolabe.flow.interpret import interpret_labels
from cytolabe.flow.study import study_sources
from cytolabe.ontology.graph import Ontology, load_ontology
from cytolabe.reconcile.combine import ACCEPT
from cytolabe.reconcile.expression import Witness, is_alike, margin_of, posterior, witnesses_of
from cytolabe.records import LabelMapping
from cytolabe.snapshot.atlas import create_atlas
from cytolabe.snapshot.profiles import label_profiles

PRIOR = 970
Key = tuple[str, str]
Seen = Mapping[Key, Sequence[Witness]]


def main(study_file: Path, data: Path | None) -> None:
    """Print the tables."""
    ontology = load_ontology("CL")
    study = read_study(study_file, data=data)
    with TemporaryDirectory() as folder:
        atlas = create_atlas(Path(folder) / "atlas")
        contribute(atlas, study_sources(study))
        mappings, _ = interpret_labels(atlas, study=study)
        cells = atlas.cells()
        profiles = [
            label_profiles(atlas, name, cells=cells[cells["dataset_id"] == name], folder=Path(folder))
            for name in sorted({m.dataset_id for m in mappings})
        ]
        accepted = {(m.dataset_id, m.contributor_label): m for m in mappings if m.decision in {"auto", "reviewed"}}
        study_of = {profile.dataset_id: profile.study for profile in profiles}
        seen: dict[tuple[str, str], list[Witness]] = {}
        for profile in profiles:
            seen |= {
                key: found for key, found in witnesses_of(profile, profiles, accepted)[0].items() if key in accepted
            }
    asked = []
    for key, witnesses in seen.items():
        for other, mapping in accepted.items():
            own = accepted[key].term
            is_swap = other[0] == key[0] and not ontology.related(own, mapping.term)
            if other == key or is_swap:
                found = margin_of(mapping.term, witnesses, ontology)
                asked.append(
                    (
                        study_of[key[0]],
                        other == key,
                        None if found is None else found[0],
                        key,
                        mapping.term,
                        found is not None and is_alike(found[1].term, witnesses),
                    )
                )
    known = [row for row in asked if row[2] is not None]
    print(f"{sum(row[1] for row in asked)} labels and {sum(not row[1] for row in asked)} swaps; "
          f"assessable {sum(row[1] for row in known)} and {sum(not row[1] for row in known)}")  # fmt: skip
    of_study = np.array([row[0] for row in known])
    is_true = np.array([row[1] for row in known])
    alike = np.array([row[5] for row in known])
    margin = np.array([row[2] for row in known], dtype=float)
    print(f"AUC of the margin {roc_auc_score(is_true, margin):.3f}")
    held = np.zeros(len(known), dtype=bool)
    for left_out in sorted(set(of_study.tolist())):
        here = of_study == left_out
        curve = fitted(margin[~here], is_true[~here])
        held[here] = alike[here] & [posterior(PRIOR, min(1.0, odds(curve, m))) < ACCEPT for m in margin[here]]
        print(f"{left_out}: intercept {curve[0]:.2f} slope {curve[1]:.2f}; held back "
              f"{held[here & is_true].sum()} of {(here & is_true).sum()} labels, "
              f"{held[here & ~is_true].sum()} of {(here & ~is_true).sum()} swaps")  # fmt: skip
    print(
        f"left out: {held[is_true].sum()} of {is_true.sum()} labels, {held[~is_true].sum()} of {(~is_true).sum()} swaps"
    )
    far = ~is_true & np.array([
        not set(ontology.ancestors(accepted[row[3]].term)) & set(ontology.ancestors(row[4])) & {"CL:0000084", "CL:0000576"}
        for row in known
    ])  # fmt: skip
    print(f"  of these across T cells, monocytes and the rest: {held[far].sum()} of {far.sum()}")
    for row, is_held in zip(known, held, strict=True):
        if row[1] and is_held:
            print(f"  held back: {row[3]} as {row[4]}, margin {row[2]:.2f}")
    print("all studies: intercept {:.2f} slope {:.2f}".format(*fitted(margin, is_true)))
    tell_nearest(study, seen, accepted)


def tell_nearest(study: Study, seen: Seen, accepted: Mapping[Key, LabelMapping]) -> None:
    """Print how often the nearest label is right, and what is nearest to labels that words leave open."""
    ontology = load_ontology("CL")
    nearest(seen, {key: m.term for key, m in accepted.items()}, ontology=ontology)
    without = reread(study)
    open_labels = [m for m in without if m.decision == "review" and (m.dataset_id, m.contributor_label) in seen]
    for m in open_labels:
        key = (m.dataset_id, m.contributor_label)
        best = best_term(seen[key])
        print(
            f"words alone hold {key}: {m.term_name}; nearest {ontology.name(best)}; truth {ontology.name(accepted[key].term)}"
        )


def reread(study: Study) -> tuple[LabelMapping, ...]:
    """Return the mappings without what the study declares."""
    with TemporaryDirectory() as folder:
        atlas = create_atlas(Path(folder) / "atlas")
        contribute(atlas, study_sources(study))
        return interpret_labels(atlas, study=dataclasses.replace(study, context=()))[0]


def fitted(margin: np.ndarray, is_true: np.ndarray) -> tuple[float, float]:
    """Return intercept and slope of the curve, true labels and swaps weighing the same."""
    found = LogisticRegression(C=1e4, class_weight="balanced").fit(margin[:, None], is_true)
    return float(found.intercept_[0]), float(found.coef_[0, 0])


def odds(curve: tuple[float, float], margin: float) -> float:
    """Return the odds of a margin on a curve."""
    return float(np.exp(curve[0] + curve[1] * margin))


def best_term(witnesses: Sequence[Witness]) -> str:
    """Return the term whose labels are nearest, by the mean over studies of the best one in each."""
    per: dict[str, dict[str, float]] = {}
    for w in witnesses:
        of_study = per.setdefault(w.term, {})
        of_study[w.study] = max(w.correlation, of_study.get(w.study, -1.0))
    return max(per, key=lambda term: (np.mean(list(per[term].values())), term))


def nearest(seen: Seen, truth: Mapping[Key, str], *, ontology: Ontology) -> None:
    """Print how often the nearest label elsewhere is right, where a right one is there."""
    pairs = right = exact = labels = of_labels = 0
    for key, witnesses in seen.items():
        for name in sorted({w.key[0] for w in witnesses}):
            there = [w for w in witnesses if w.key[0] == name]
            if any(ontology.related(w.term, truth[key]) for w in there):
                best = max(there, key=lambda w: w.correlation).term
                pairs, right = pairs + 1, right + ontology.related(best, truth[key])
        if any(ontology.related(w.term, truth[key]) for w in witnesses):
            best = best_term(witnesses)
            labels += 1
            of_labels += ontology.related(best, truth[key])
            exact += best == truth[key]
    print(
        f"nearest label right in {right} of {pairs} pairs of label and data set; over studies {of_labels} of {labels} (exact {exact})"
    )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("study", type=Path)
    parser.add_argument("--data", type=Path)
    given = parser.parse_args()
    main(given.study, given.data)
