"""Check certificates against the split and the cells that they speak of, with nothing but Python's standard library.

    python verify_certificate.py certificate.json split.json cells.tsv [scores.json] [counts.DATASET.tsv ...] [--older]

One file, no dependency and no code shared with what made the certificates: whoever doubts them can read it. It computes
again, for each fold: the digest of the certificate; both sides, by the digests that the split records; the table of
cells, by the digest in the certificate; shared persons, donor names and libraries; where labels come from; whether the
contrasts of each level are estimable; which labels were drawn where few were learned from; and, from the tables of counts, identical and (of small folds) near-identical cells. Frozen thresholds must be those
of their version, which is the newest that this file knows (`--older`: an older one passes, and what it lacks is told), no test may be missing, and every score must quote a certificate of its fold. What it cannot compute
again it names. Exit status: 0 all agrees, 1 something does not, 2 wrong usage.

`cells.tsv`: facts of each cell in canonical order, then one column `side:FOLD` per fold (`train`, `test` or empty).
`counts.DATASET.tsv`: a line `#genes` and the names; then the position of a cell in cells.tsv, and `gene:count` pairs.
"""

import hashlib
import json
import math
import re
import sys
from collections import Counter
from collections.abc import Iterable
from decimal import Decimal
from itertools import combinations_with_replacement
from pathlib import Path
from typing import Any, NamedTuple

__all__ = [
    "CIRCULAR", "DRAWS", "FROZEN", "NEAR_PAIRS", "NEWEST", "NOT_GIVEN", "OLDER", "PROBES", "REQUIRED", "SINCE_4",
    "SINCE_5", "Copies", "Facts", "Fold", "barcodes", "canonical", "cells_digest", "check_draws", "check_near",
    "check_pairs", "check_scores", "check_steps", "check_tests", "check_version", "digest_of", "estimability",
    "facts_digest", "identical", "label_origin", "main", "near", "persons_of", "read_cells", "read_counts",
    "required_of", "rows_digest", "shared",
    "verify",
]  # fmt: skip

FROZEN: dict[int, dict[str, int]] = {
    2: {
        "audit_version": 2, "min_shared_counts": 300, "min_off_diagonal_donors": 3, "max_stray_permille": 20,
    },
    3: {
        "audit_version": 3, "min_shared_counts": 300, "min_off_diagonal_donors": 3, "max_stray_permille": 20,
        "min_shared_nonzero": 100, "max_near_dispersion_permille": 700, "min_near_sigmas": 4, "min_near_depth_permille": 125,
    },
}  # fmt: skip
"""Thresholds of the audit by version; a change of any gets a new version."""
FROZEN[4] = {**FROZEN[3], "audit_version": 4, "min_coded_cells": 20, "min_coded_permille": 900}
FROZEN[5] = {**FROZEN[4], "audit_version": 5, "max_code_width_permille": 1}
NEWEST = max(FROZEN)
REQUIRED = (
    "sides", "shared persons", "shared donor names", "shared libraries", "identical cells", "near-identical cells",
    "shared barcodes", "pretraining", "label evidence", "label origin", "facts of cells",
)  # fmt: skip
SINCE_4 = ("genes that hold a code",)
"""Tests that version 4 added."""
DRAWS = "limited labels"
"""The test that names the labels of each draw, where a study learns from few of them."""
SINCE_5 = ("columns that hold a code", "fits of delivered files")
"""Tests that version 5 added, beside `dimensions of MODEL that hold a code` for each embedding that a probe reads."""
PROBES = ("+knn", "+logistic")
OLDER = "--older"
"""Option that lets certificates of an older audit pass, named as weaker."""
NEAR_PAIRS = 50_000
"""Pairs of a test and a training cell up to which all are compared anew for near-identical cells."""
CIRCULAR = {"automated", "transferred"}
NOT_GIVEN = {"", "unknown"}
Facts = dict[str, str]


class Fold(NamedTuple):
    """The cells of one fold: positions in `cells`."""

    cells: list[Facts]
    train: list[int]
    test: list[int]


def main(arguments: list[str]) -> int:
    """Check what the arguments name and tell what was found."""
    paths = [Path(text) for text in arguments if text != OLDER]
    if len(paths) < 3:
        sys.stderr.write(f"{__doc__}\n")
        return 2
    certificates = json.loads(paths[0].read_bytes())["certificates"]
    split, rest = json.loads(paths[1].read_bytes()), paths[3:]
    scores = [path for path in rest if path.suffix == ".json"]
    counts = [path for path in rest if path.suffix == ".tsv"]
    wrong, open_ = verify(certificates, split, paths[2], counts=counts)
    weaker = [f"{one.get('split_id')}: {text}" for one in certificates for text in check_version(one)]
    wrong += [] if OLDER in arguments else weaker
    if scores:
        wrong += check_scores(certificates, json.loads(scores[0].read_bytes()))
    for line in open_:
        sys.stdout.write(f"not computed again: {line}\n")
    for line in weaker if OLDER in arguments else []:
        sys.stdout.write(f"WEAKER: {line}\n")
    for line in wrong:
        sys.stdout.write(f"WRONG: {line}\n")
    sys.stdout.write(f"{len(certificates)} certificate(s): {len(wrong)} disagreement(s)\n")
    return 1 if wrong else 0


def verify(
    certificates: list[dict[str, Any]], split: dict[str, Any], table: Path, *, counts: list[Path]
) -> tuple[list[str], list[str]]:
    """Return what does not agree, and what could not be computed again."""
    columns, cells = read_cells(table)
    facts = facts_digest([name for name in columns if not name.startswith("side:")], cells)
    folds = {fold["split_id"]: fold for fold in split["splits"]}
    wrong = [f"{name}: the split has this fold, and no certificate" for name in sorted(set(folds) - _ids(certificates))]
    open_: list[str] = []
    copies = read_counts(counts) if counts else None
    for document in certificates:
        name = str(document.get("split_id"))
        problem = _identity(document, split, known=name in folds and f"side:{name}" in columns)
        if problem:
            wrong.append(f"{name}: {problem}")
            continue
        sides = [[n for n, cell in enumerate(cells) if cell[f"side:{name}"] == side] for side in ("train", "test")]
        fold = Fold(cells, sides[0], sides[1])
        found, unseen = check_tests(document, fold, copies=copies)
        wrong += [f"{name}: {text}" for text in (*_sides(document, folds[name], fold, facts=facts), *found)]
        open_ += [f"{name}: {text}" for text in unseen]
    return wrong, open_


def required_of(version: object) -> tuple[str, ...]:
    """Return the tests that a certificate of a version must have."""
    number = version if isinstance(version, int) else NEWEST
    return (*REQUIRED, *(SINCE_4 if number >= 4 else ()), *(SINCE_5 if number >= 5 else ()))


def check_version(document: dict[str, Any]) -> list[str]:
    """Say what a certificate of an older audit was not tested for: whoever seals one anew may claim an older audit."""
    version = document.get("thresholds", {}).get("audit_version")
    if version not in FROZEN or version == NEWEST:
        return []
    lacks = [name for name in required_of(NEWEST) if name not in required_of(version)]
    told = f"thresholds: it claims audit version {version}, and this verifier knows {NEWEST}: tested less, and not for {', '.join(lacks)}. "
    return [f"{told}If it is truly that old, use the verifier that was written beside it, or say {OLDER}"]


def _ids(certificates: list[dict[str, Any]]) -> set[str]:
    return {str(document.get("split_id")) for document in certificates}


def _identity(document: dict[str, Any], split: dict[str, Any], *, known: bool) -> str:
    body = {key: value for key, value in document.items() if key != "digest"}
    if digest_of(body) != document.get("digest"):
        return "the certificate does not have the digest that it names: it was edited"
    if document.get("snapshot_id") != split.get("snapshot_id"):
        return "certificate and split are of two snapshots: one of them is stale"
    return "" if known else "the split or the table of cells has no such fold"


def _sides(document: dict[str, Any], recorded: dict[str, Any], fold: Fold, *, facts: str) -> list[str]:
    """Compare both sides with what the split and the certificate say of them."""
    said = _tests(document).get("sides", {})
    wrong = []
    if _tests(document).get("facts of cells", {}).get("facts_digest") != facts:
        wrong.append("cells.tsv is not the table of cells that was certified")
    for side, rows in (("train", fold.train), ("test", fold.test)):
        found = {
            f"n_{side}": len(rows),
            f"{side}_rows_digest": rows_digest(rows),
            f"{side}_cells_digest": cells_digest(fold.cells[row]["cell_id"] for row in rows),
        }
        wrong += [f"sides: {key} is another one" for key, value in found.items() if said.get(key) != value]
        key = f"{side}_rows_digest"
        # Of many folds the training side is not spelled out where it is simply all the rest.
        is_rest = recorded.get(key) is None and bool(recorded.get("train_is_rest"))
        if recorded.get(key) != found[key] and not (is_rest and len(fold.train) + len(fold.test) == len(fold.cells)):
            wrong.append(f"sides: the {side} side is not the one of split.json")
    return wrong


def check_tests(document: dict[str, Any], fold: Fold, *, copies: "Copies | None") -> tuple[list[str], list[str]]:
    """Compute the tests of a fold again; return what disagrees and what cannot be computed."""
    said = _tests(document)
    wrong = ["tests: one is named twice"] if len(said) < len(document.get("tests", [])) else []
    thresholds = document.get("thresholds", {})
    version = thresholds.get("audit_version")
    frozen = FROZEN.get(version) if isinstance(version, int) else None
    required = required_of(version)
    wrong += [f"{name}: the test is missing" for name in required if name not in said]
    if frozen is None or any(thresholds.get(key) != value for key, value in frozen.items()):
        wrong.append(f"thresholds: they are not those that were frozen as version {version}")
    computed = {"sides": {"n_tested": len(fold.train) + len(fold.test), "n_found": 0}, **shared(fold)}
    computed["facts of cells"] = {"n_tested": len(fold.cells), "n_found": 0}
    computed["label origin"] = label_origin(fold)
    for name in said:
        if name.startswith("estimability, "):
            computed[name] = estimability(fold, "label:" + name.removeprefix("estimability, "))
    minimum = said.get("identical cells", {}).get("min_shared_nonzero")
    if copies is not None and isinstance(minimum, int):
        computed["identical cells"] = identical(fold, copies, least=(minimum, 300))
        found = near(fold, copies, least=(minimum, 300))
        left_out = any(name.startswith("near-identical cells") for name in document.get("not_testable", {}))
        n_tested = None if left_out else computed["identical cells"]["n_tested"]
        wrong += check_near(said, found, n_tested=n_tested)
        wrong += (
            []
            if minimum == (frozen or {}).get("min_shared_nonzero", minimum)
            else ["identical cells: not the frozen minimum of genes"]
        )
        computed |= {"near-identical cells": {}} if found is not None else {}
    for name, facts in computed.items():
        differs = [key for key, value in facts.items() if name in said and said[name].get(key) != value]
        wrong += [f"{name}: {key} is {facts[key]}, not {said[name].get(key)}" for key in differs]
    steps, open_steps = check_steps(said, fold)
    if DRAWS in said:
        wrong += check_draws(said[DRAWS], fold)
        computed[DRAWS] = {}
        n_barred = len(said[DRAWS].get("not_drawn_from", []))
        open_steps += [f"why nothing was drawn from {n_barred} labelled training cells"] if n_barred else []
    wrong += check_pairs(document, said, fold, n_shared=computed["shared persons"]["n_found"])
    left = [name for name in said if name not in computed and not name.startswith("fit scope of ")]
    left.append("planted copies")
    return [*wrong, *steps], [*left, *open_steps]


def check_pairs(document: dict[str, Any], said: dict[str, Any], fold: Fold, *, n_shared: int) -> list[str]:
    """Compare the pairs of a training and a test person with the persons of both sides and with the assumption."""
    wrong = []
    pairs, persons = said.get("shared persons", {}).get("person_pairs", {}), persons_of(fold.cells)
    n_pairs = [len({persons[n] for n in side} - {""}) for side in (fold.train, fold.test)]
    if pairs.get("same") != n_shared or sum(pairs.values()) != n_pairs[0] * n_pairs[1]:
        wrong.append("shared persons: the pairs of persons are not those of both sides")
    first = f"{pairs.get('same')} known shared persons, {pairs.get('assumed_different')} pairs"
    if not str((document.get("assumptions") or [""])[0]).startswith(first):
        wrong.append("assumptions: what is assumed of persons is not what was counted")
    return wrong


def check_steps(said: dict[str, dict[str, Any]], fold: Fold) -> tuple[list[str], list[str]]:
    """Recognize the cells behind each fitted step by their digest, where they are a side of the fold."""
    ids = [cell["cell_id"] for cell in fold.cells]
    whole = {
        cells_digest(ids[n] for n in fold.test): "test",
        cells_digest(ids[n] for n in (*fold.train, *fold.test)): "test",
        cells_digest(ids[n] for n in fold.train): "training",
    }
    wrong, n_open = [], 0
    for name, test in said.items():
        for step in test.get("steps", []) if name.startswith("fit scope of ") else []:
            kind = whole.get(step.get("cells_digest"))
            n_open += kind is None
            if kind == "test" and not any(word in str(step.get("cells")) for word in ("test", "query")):
                wrong.append(f"{name}: step {step.get('step')} met test cells, and the certificate does not say so")
    return wrong, [f"{n_open} fitted step(s) on parts of a side"] if n_open else []


def check_draws(test: dict[str, Any], fold: Fold) -> list[str]:
    """Draw few labels again, in the order of SHA-256 of seed, number of the draw and name, and compare their digests."""
    column, barred = f"label:{test.get('level')}", set(test.get("not_drawn_from", []))
    cells, persons, wrong = fold.cells, persons_of(fold.cells), []
    pool = [n for n in fold.train if cells[n].get(column, "") not in NOT_GIVEN and n not in barred]

    def key(number: int, name: str) -> str:
        return hashlib.sha256(f"{test.get('seed')}\x1flimited labels\x1f{number}\x1f{name}".encode()).hexdigest()

    for draw in test.get("draws", []):
        stratum, number = str(draw.get("stratum")), draw.get("draw")
        axis, _, text = stratum.partition("=")
        most, kept, taken = int(text) if text.isdigit() else 0, [], Counter[str]()
        if axis == "cells_per_type":
            for n in sorted(pool, key=lambda n: key(number, cells[n]["cell_id"])):
                kept += [n] if taken[cells[n][column]] < most else []
                taken[cells[n][column]] += 1
        elif axis == "donors":
            chosen = sorted({persons[n] for n in pool} - {""}, key=lambda name: key(number, name))[:most]
            kept = [n for n in pool if persons[n] in chosen]
        found = (len(kept), cells_digest(cells[n]["cell_id"] for n in kept))
        if not kept or (draw.get("n_cells"), draw.get("cells_digest")) != found:
            wrong.append(f"{DRAWS}: {stratum}, draw {number} are not the cells that the seed draws")
    return wrong


def _draws_unknown(score: dict[str, Any], quoted: dict[str, Any]) -> str:
    """Say what is wrong with the labels of a score on few of them; empty if its model was fitted on every draw."""
    tests = _tests(quoted)
    own = {
        str(d.get("cells_digest"))
        for d in tests.get(DRAWS, {}).get("draws", [])
        if d.get("stratum") == score["stratum"]
    }
    if not own or tests.get(DRAWS, {}).get("level") != score["resolution"]:
        return "the certificate names no such draw of labels"
    steps = {step.get("cells_digest") for step in tests.get(f"fit scope of {score['model']}", {}).get("steps", [])}
    return "" if own <= steps else "it was not fitted on the labels that were drawn"


def check_scores(certificates: list[dict[str, Any]], document: dict[str, Any]) -> list[str]:
    """Every score of a fold quotes the certificate of that fold, and its model was looked at."""
    known = {str(one["digest"]): one for one in certificates if "digest" in one}
    folds, wrong = _ids(certificates), set()
    joint = digest_of([str(one.get("digest")) for one in certificates])
    for score in document["scores"]:
        quoted = known.get(score["certificate"])
        where = f"{score['model']} on {score['split']}"
        if score["split"] in folds and (quoted is None or quoted["split_id"] != score["split"]):
            wrong.add(f"{where}: its score quotes no certificate of its fold")
        elif score["split"] not in folds and score["certificate"] not in ("", joint):
            wrong.add(f"{where}: its score does not quote the certificates of all folds")
        elif quoted is not None and score["value"] is not None:
            name = f"fit scope of {score['model']}"
            tested = {*_tests(quoted), *quoted.get("not_testable", {})}
            if score.get("task") == "integration":
                # An embedding is tested with the probes on it; what is no model was fitted by nobody.
                tested |= {one.partition("+")[0] for one in tested}
                tested |= {name} if score["protocol"] == "control" and score["model"].startswith("control: ") else set()
            if name not in tested:
                wrong.add(f"{where}: nobody tested what it was fitted on")
            problem = _draws_unknown(score, quoted) if score.get("task") == "limited_labels" else ""
            wrong |= {f"{where}, {score['stratum']}: {problem}"} if problem else set()
            probe = next((one for one in PROBES if score["model"].endswith(one)), "")
            is_new = quoted.get("thresholds", {}).get("audit_version", NEWEST) >= 5
            if (
                probe
                and is_new
                and f"dimensions of {score['model'].removesuffix(probe)} that hold a code" not in tested
            ):
                wrong.add(f"{where}: nobody looked for labels in its dimensions")
    return sorted(wrong)


def shared(fold: Fold) -> dict[str, dict[str, Any]]:
    """Persons, donor names of unresolved persons, and libraries on both sides."""
    cells = fold.cells
    persons = persons_of(cells)
    resolved = [person != "" for person in persons]
    names = [f"{_study(cell)}: {cell['donor_id']}" if cell["donor_id"] not in NOT_GIVEN else "" for cell in cells]
    suspect = {name for name, ok in zip(names, resolved, strict=True) if name and not ok}
    libraries = [f"{cell['dataset_id']}:{cell['batch']}" if cell["batch"] not in NOT_GIVEN else "" for cell in cells]
    both = _both(persons, fold)
    return {
        "shared persons": {"n_tested": len(set(persons) - {""}), "n_found": len(both)},
        "shared donor names": {"n_tested": len(suspect), "n_found": len(_both(names, fold) & suspect)},
        "shared libraries": {"n_tested": len(set(libraries) - {""}), "n_found": len(_both(libraries, fold))},
        "shared barcodes": barcodes(fold),
    }


def barcodes(fold: Fold) -> dict[str, Any]:
    """How many barcodes a training and a test data set share, and how many lists of barcodes would give by chance."""
    sides: list[dict[str, set[str]]] = [{}, {}]
    n_tested = 0
    for number, side in enumerate((fold.train, fold.test)):
        for n in side:
            name = fold.cells[n]["cell_id"].partition(":")[2]
            barcode = max(re.findall("[ACGT]{12,24}", name), key=len, default="")
            sides[number].setdefault(fold.cells[n]["dataset_id"], set()).update({barcode} - {""})
            n_tested += number == 1 and barcode != ""
    pairs: list[dict[str, Any]] = [
        {"train": a, "test": b, "shared": len(own & other), "by_chance": float(f"{len(own) * len(other) / 737280:.3g}")}
        for a, own in sorted(sides[0].items())
        for b, other in sorted(sides[1].items())
        if a != b and own and other
    ]
    n_found = sum(
        _is_above_chance(pair["shared"], len(sides[0][pair["train"]]) * len(sides[1][pair["test"]]) / 737280)
        for pair in pairs
    )
    return {"n_tested": n_tested, "n_found": n_found, "pairs": pairs}


def _is_above_chance(shared: int, expected: float) -> bool:
    """Tell whether so many are at least twice as many as expected and have a Poisson probability under 1e-6."""
    terms = (math.exp(n * math.log(expected) - expected - math.lgamma(n + 1)) for n in range(shared, shared + 1000))
    return shared >= 2 * expected and shared > 0 and sum(terms) < 1e-6


def persons_of(cells: list[Facts]) -> list[str]:
    """Return the person of each cell; empty where nobody resolved it."""
    return [
        cell["person_id"] if cell["person_state"] == "resolved" and cell["person_id"] != "unknown" else ""
        for cell in cells
    ]


def _study(cell: Facts) -> str:
    return cell["dataset_id"] if cell["study"] in NOT_GIVEN else cell["study"]


def _both(keys: list[str], fold: Fold) -> set[str]:
    return ({keys[n] for n in fold.train} & {keys[n] for n in fold.test}) - {""}


def label_origin(fold: Fold) -> dict[str, Any]:
    """How many labelled test cells have labels that a program or another data set gave."""
    origins = Counter(fold.cells[n]["label_origin"] for n in fold.test if fold.cells[n]["term"] not in NOT_GIVEN)
    found = sum(n for origin, n in origins.items() if origin in CIRCULAR)
    return {"n_tested": sum(origins.values()), "n_found": found, "origins": dict(sorted(origins.items()))}


def estimability(fold: Fold, column: str) -> dict[str, Any]:
    """Labels of the test side, and the groups of them that never share a library in training, directly or not."""
    edges: dict[tuple[str, str], set[tuple[str, str]]] = {}
    for n in fold.train:
        cell = fold.cells[n]
        if cell.get(column, "") not in NOT_GIVEN:
            label, library = ("label", cell[column]), ("library", f"{cell['dataset_id']}:{cell['batch']}")
            edges.setdefault(label, set()).add(library)
            edges.setdefault(library, set()).add(label)
    tested = {("label", fold.cells[n].get(column, "")) for n in fold.test} & set(edges)
    n_groups, seen = 0, set()
    for label in sorted(tested):
        n_groups += label not in seen
        waiting = [label]
        while waiting:
            node = waiting.pop()
            if node not in seen:
                seen.add(node)
                waiting += edges[node]
    return {"n_tested": len(tested), "n_found": max(0, n_groups - 1)}


class Copies(NamedTuple):
    """Counts of every cell by position, and the genes that each data set measures."""

    counts: dict[int, dict[str, int]]
    genes: dict[str, set[str]]


def read_counts(paths: list[Path]) -> Copies:
    """Read tables of counts; the name of a file holds the data set."""
    counts: dict[int, dict[str, int]] = {}
    genes: dict[str, set[str]] = {}
    for path in paths:
        with path.open(encoding="utf-8") as lines:
            names = next(lines).rstrip("\n").split("\t")[1:]
            genes[path.name.removeprefix("counts.").removesuffix(".tsv")] = set(names)
            for line in lines:
                row, _, pairs = line.rstrip("\n").partition("\t")
                entries = (pair.partition(":") for pair in pairs.split(" ") if pair)
                counts[int(row)] = {names[int(place)]: int(count) for place, _, count in entries}
    return Copies(counts, genes)


def identical(fold: Fold, copies: Copies, *, least: tuple[int, int]) -> dict[str, Any]:
    """Test cells that are equal to training cells on all genes that both data sets measure, also through others."""
    rows_of: dict[str, list[int]] = {}
    for row, cell in enumerate(fold.cells):
        rows_of.setdefault(cell["dataset_id"], []).append(row)
    trained = {fold.cells[n]["dataset_id"] for n in fold.train}
    tested, parent = set(), list(range(len(fold.cells)))
    for a, b in combinations_with_replacement(sorted(rows_of), 2):
        genes = copies.genes.get(a, set()) & copies.genes.get(b, set())
        groups: dict[tuple[tuple[str, int], ...], list[int]] = {}
        for name, partner in {(a, b), (b, a)}:
            for row in rows_of[name]:
                kept = [(gene, n) for gene, n in copies.counts.get(row, {}).items() if n and gene in genes]
                if len(kept) >= least[0] and sum(n for _, n in kept) >= least[1]:
                    groups.setdefault(tuple(sorted(kept)), []).append(row)
                    if partner in trained:
                        tested.add(row)
        for rows in groups.values():
            for row in rows[1:]:
                parent[_root(parent, row)] = _root(parent, rows[0])
    classes = {_root(parent, row) for row in fold.train}
    found = sum(_root(parent, row) in classes for row in fold.test)
    return {"n_tested": len(tested & set(fold.test)), "n_found": found}


def check_near(said: dict[str, Any], found: tuple[int, int] | None, *, n_tested: int | None) -> list[str]:
    """Compare what was found: a search may miss as many as the certificate says of the copies that it planted."""
    told, wrong = said.get("near-identical cells", {}), []
    if found is not None:
        planted, seen = (told.get("planted") or {}).get("50", [0, 0])
        share = (seen + 1) / (planted + 2)
        # Three standard deviations below what such a search finds of so many.
        least = math.ceil(max(0.0, found[0] * share - 3 * math.sqrt(found[0] * share * (1 - share))))
        if not least <= told.get("n_direct", -1) <= found[1]:
            wrong.append(f"n_direct is {least} to {found[1]}, not {told.get('n_direct')}")
    if n_tested is not None and told.get("n_tested") != n_tested:
        wrong.append(f"n_tested is {n_tested}, not {told.get('n_tested')}")
    # Who has an identical copy across, too, counts there.
    if told.get("n_found", 0) + said.get("identical cells", {}).get("n_found", 0) < told.get("n_direct", 0):
        wrong.append("n_found is less than n_direct")
    return [f"near-identical cells: {text}" for text in wrong]


def near(fold: Fold, copies: Copies, *, least: tuple[int, int]) -> tuple[int, int] | None:
    """Test cells near-identical to a training cell: surely, and at all. None where all pairs are too many to try."""
    if len(fold.train) * len(fold.test) > NEAR_PAIRS:
        return None
    surely, at_all = set(), set()
    for row in fold.test:
        for partner in fold.train:
            names = [fold.cells[n]["dataset_id"] for n in (row, partner)]
            genes = copies.genes.get(names[0], set()) & copies.genes.get(names[1], set())
            x, y = ({g: n for g, n in copies.counts.get(r, {}).items() if n and g in genes} for r in (row, partner))
            if x == y or any(len(one) < least[0] or sum(one.values()) < least[1] for one in (x, y)):
                continue
            depths, either = (sum(x.values()), sum(y.values())), x.keys() | y.keys()
            up = (depths[1] / depths[0]) ** 0.5
            square = sum((up * x.get(g, 0) - y.get(g, 0) / up) ** 2 / (x.get(g, 0) + y.get(g, 0)) for g in either)
            ratio, sigmas = square / (len(either) - 1), ((len(either) - 1) / 2) ** 0.5
            if ratio <= 0.7 and (1 - ratio) * sigmas >= 4 and min(depths) >= 0.125 * max(depths):
                at_all.add(row)
                surely |= {row} if ratio <= 0.45 else set()
    return len(surely), len(at_all)


def _root(parent: list[int], row: int) -> int:
    while parent[row] != row:
        parent[row] = parent[parent[row]]
        row = parent[row]
    return row


def read_cells(path: Path) -> tuple[list[str], list[Facts]]:
    """Read the table of cells: its columns, and one row per cell in canonical order."""
    lines = path.read_text(encoding="utf-8").split("\n")[:-1]
    columns = [_plain(word) for word in lines[0].split("\t")]
    return columns, [dict(zip(columns, map(_plain, line.split("\t")), strict=True)) for line in lines[1:]]


def _plain(word: str) -> str:
    if "\\" not in word:
        return word
    parts = [part.replace("\\t", "\t").replace("\\n", "\n").replace("\\r", "\r") for part in word.split("\\\\")]
    return "\\".join(parts)


def facts_digest(columns: list[str], cells: list[Facts]) -> str:
    """Digest of the facts of all cells, in order."""
    digest = hashlib.sha256("\x1f".join(columns).encode())
    for cell in cells:
        digest.update(("\x1e" + "\x1f".join(cell[name] for name in columns)).encode())
    return "sha256:" + digest.hexdigest()


def rows_digest(rows: list[int]) -> str:
    """Digest of a set of positions: sorted, 64-bit little-endian."""
    return "sha256:" + hashlib.sha256(b"".join(row.to_bytes(8, "little") for row in sorted(set(rows)))).hexdigest()


def cells_digest(cell_ids: Iterable[str]) -> str:
    """Digest of a set of cells."""
    return "sha256:" + hashlib.sha256(b"".join(name.encode() + b"\0" for name in sorted(set(cell_ids)))).hexdigest()


def digest_of(value: object) -> str:
    """Digest of the canonical JSON (RFC 8785) of a value."""
    return "sha256:" + hashlib.sha256(canonical(value).encode()).hexdigest()


def canonical(value: object) -> str:
    """Return canonical JSON: names sorted by UTF-16, numbers as ECMAScript writes them."""
    if isinstance(value, dict):
        names = sorted(value, key=lambda name: name.encode("utf-16-be"))
        return "{" + ",".join(f"{canonical(name)}:{canonical(value[name])}" for name in names) + "}"
    if isinstance(value, list):
        return "[" + ",".join(map(canonical, value)) + "]"
    if isinstance(value, float):
        return _number(value)
    return json.dumps(value, ensure_ascii=False)


def _number(value: float) -> str:
    """Write a number as ECMAScript does: the shortest digits, with an exponent outside of 1e-7 to 1e21."""
    _, digits, exponent = Decimal(repr(value)).normalize().as_tuple()
    text, sign = "".join(map(str, digits)), "-" if value < 0 else ""
    point = len(text) + int(exponent)
    if value == 0:
        return "0"
    if len(text) <= point <= 21:
        return sign + text + "0" * (point - len(text))
    if 0 < point <= 21:
        return f"{sign}{text[:point]}.{text[point:]}"
    if -6 < point <= 0:
        return f"{sign}0.{'0' * -point}{text}"
    mantissa = text if len(text) == 1 else f"{text[0]}.{text[1:]}"
    return f"{sign}{mantissa}e{'+' if point > 0 else '-'}{abs(point - 1)}"


def _tests(document: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {str(test.get("test")): test for test in document.get("tests", []) if isinstance(test, dict)}


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
