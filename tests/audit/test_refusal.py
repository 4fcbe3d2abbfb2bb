"""Over 1,000 simulated designs are refused if and only if rule R12 says so, as an oracle of its own reads it.

The oracle shares no code with the package: contrasts of cell types are searched for along paths of a dictionary, and
contrasts of donors by exact elimination over rational numbers.
"""

from collections import Counter
from fractions import Fraction
from itertools import combinations

import numpy as np
import pandas as pd

from cytolabe.audit.claims import cell_type_claim, donor_claim
from cytolabe.records import ScoreStatus
from cytolabe.snapshot.view import CELL_COLUMNS

N_DESIGNS = 700
Cell = tuple[str, str, str, str]
"""Library, label, tissue, side."""


def cells_of(rows: list[dict[str, str]]) -> pd.DataFrame:
    frame = pd.DataFrame(rows)
    for column in CELL_COLUMNS:
        if column not in frame:
            frame[column] = "unknown"
    frame["person_state"] = np.where(frame["person_id"] == "unknown", "unknown", "resolved")
    return frame


def some(rng: np.random.Generator, names: list[str], *, most: int) -> list[str]:
    return rng.choice(names, size=int(rng.integers(1, min(most, len(names)) + 1)), replace=False).tolist()


def random_design(rng: np.random.Generator) -> list[Cell]:
    """Any libraries with any labels; some libraries are on both sides, some training cells have no label."""
    labels = list("abcdef")[: int(rng.integers(2, 7))]
    cells: list[Cell] = []
    for number in range(int(rng.integers(2, 8))):
        sides = rng.choice(["train", "test", "both"], p=[0.4, 0.3, 0.3])
        tissue = str(rng.choice(["blood", "lung"]))
        for side in ("train", "test") if sides == "both" else (str(sides),):
            for label in some(rng, labels, most=3):
                given = "" if side == "train" and rng.random() < 0.15 else label
                cells.append((f"l{number}", given, tissue, side))
    return cells


def sorted_populations(rng: np.random.Generator, *, within: bool) -> list[Cell]:
    """One library per gate; within: both sides hold cells of each gate, else the gates are held out whole."""
    labels = list("abcdefghi")[: int(rng.integers(2, 10))]
    if within:
        return [(f"gate {x}", x, "blood", side) for x in labels for side in ("train", "test")]
    reference = [(f"r{n}", x, "blood", "train") for n in range(int(rng.integers(1, 4))) for x in labels]
    return reference + [(f"gate {x}", x, "blood", "test") for x in labels]


def multi_tissue(rng: np.random.Generator, *, within: bool) -> list[Cell]:
    """A normal atlas: each tissue has types of its own, at least two; donors give a library per tissue."""
    cells: list[Cell] = []
    n_donors = int(rng.integers(2, 5))
    for tissue in ("lung", "gut", "liver", "skin")[: int(rng.integers(2, 5))]:
        types = [f"{tissue} {n}" for n in range(int(rng.integers(2, 5)))]
        types += ["macrophage"] if rng.random() < 0.3 else []
        for donor in range(n_donors):
            side = "test" if donor == 0 else "train"
            for label in types:
                sides = ("train", "test") if within else (side,)
                cells += [(f"{tissue} {donor}", label, tissue, one) for one in sides]
    return cells


def is_refused_by_r12(cells: list[Cell]) -> bool:
    """Refuse when a contrast of test labels is not estimable in training and its library is on both sides.

    Types that keep apart because their tissues do are no fault of the design, as long as each has company.
    """
    neighbors: dict[str, set[str]] = {}
    for library, label, _, side in cells:
        if side == "train" and label:
            neighbors.setdefault(f"label {label}", set()).add(f"library {library}")
            neighbors.setdefault(f"library {library}", set()).add(f"label {label}")

    def reached(label: str) -> frozenset[str]:
        seen, waiting = set(), [f"label {label}"]
        while waiting:
            node = waiting.pop()
            if node not in seen:
                seen.add(node)
                waiting += sorted(neighbors[node])
        return frozenset(node.removeprefix("label ") for node in seen if node.startswith("label "))

    trained = {library for library, _, _, side in cells if side == "train"}
    tested: dict[str, set[str]] = {}
    for library, label, _, side in cells:
        if side == "test" and f"label {label}" in neighbors:
            tested.setdefault(label, set()).add(library)
    if not tested:
        return True
    lost = [(a, b) for a, b in combinations(sorted(tested), 2) if b not in reached(a)]
    leaking = [(a, b) for a, b in lost if (tested[a] | tested[b]) & trained]
    tissues_of = {
        group: {tissue for _, label, tissue, side in cells if side == "train" and label in group}
        for group in {reached(label) for label in tested}
    }
    by_tissue = all(not (tissues_of[a] & tissues_of[b]) for a, b in combinations(tissues_of, 2))
    alone = any(len(reached(label)) == 1 and tested[label] & trained for pair in leaking for label in pair)
    return bool(leaking) and (alone or not by_tissue)


FAMILIES = {
    "random": random_design,
    "sorted, within": lambda rng: sorted_populations(rng, within=True),
    "sorted, held out whole": lambda rng: sorted_populations(rng, within=False),
    "multi-tissue, donors held out": lambda rng: multi_tissue(rng, within=False),
    "multi-tissue, within libraries": lambda rng: multi_tissue(rng, within=True),
}
EXPECTED = {
    "sorted, within": {True},
    "sorted, held out whole": {False},
    "multi-tissue, donors held out": {False},
    "multi-tissue, within libraries": {False},
}


def judged(cells: list[Cell]) -> ScoreStatus:
    rows = [{"dataset_id": "d", "batch": x, "contributor_label": y, "tissue": z} for x, y, z, _ in cells]
    sides = np.array([side for *_, side in cells])
    frame = cells_of(rows)
    return cell_type_claim(
        frame,
        frame["contributor_label"].to_numpy(dtype=object),
        train_rows=np.flatnonzero(sides == "train"),
        test_rows=np.flatnonzero(sides == "test"),
    ).status


def test_700_designs_of_cell_types_are_refused_if_and_only_if_r12_says_so():
    found: Counter[tuple[str, bool]] = Counter()
    for number in range(N_DESIGNS):
        family = "random" if number % 2 else list(FAMILIES)[1 + (number // 2) % 4]
        cells = FAMILIES[family](np.random.default_rng(number))
        expected = is_refused_by_r12(cells)
        assert (judged(cells) is ScoreStatus.REFUSED) == expected, (family, number, cells)
        found[family, expected] += 1
    assert {family: {x for name, x in found if name == family} for family in EXPECTED} == EXPECTED
    assert min(found["random", True], found["random", False]) >= 75


def donor_design(rng: np.random.Generator) -> list[dict[str, str]]:
    """Donors with a factor and platforms that follow it more or less; some donors were processed twice."""
    n_levels, n_assays, n_sites = (int(rng.integers(low, 4)) for low in (2, 1, 1))
    follows = rng.choice([0.0, 0.5, 0.9, 1.0])
    rows = []
    for number in range(int(rng.integers(2, 13))):
        level = int(rng.integers(n_levels))
        for _ in range(1 + (rng.random() < 0.15)):
            tied = rng.random() < follows
            assay = level % n_assays if tied else int(rng.integers(n_assays))
            site = level % n_sites if rng.random() < follows else int(rng.integers(n_sites))
            rows.append({
                "dataset_id": "d", "person_id": f"p{number}", "batch": f"b{number}", "assay": f"v{assay}",
                "site": f"s{site}", "disease": f"x{level}",
            })  # fmt: skip
    return rows


def exact_rank(matrix: list[list[int]]) -> int:
    rows = [[Fraction(value) for value in row] for row in matrix]
    rank = 0
    for column in range(len(rows[0]) if rows else 0):
        pivot = next((r for r in range(rank, len(rows)) if rows[r][column]), None)
        if pivot is None:
            continue
        rows[rank], rows[pivot] = rows[pivot], rows[rank]
        for r in range(rank + 1, len(rows)):
            factor = rows[r][column] / rows[rank][column]
            rows[r] = [a - factor * b for a, b in zip(rows[r], rows[rank], strict=True)]
        rank += 1
    return rank


def is_deficient(rows: list[dict[str, str]]) -> bool:
    levels = sorted({row["disease"] for row in rows})
    technique = [(column, level) for column in ("assay", "site") for level in sorted({row[column] for row in rows})]
    base = [[1, *(int(row[column] == level) for column, level in technique)] for row in rows]
    whole = [
        [*known, *(int(row["disease"] == level) for level in levels)] for known, row in zip(base, rows, strict=True)
    ]
    return len(levels) < 2 or exact_rank(whole) - exact_rank(base) < len(levels) - 1


def fewest_untying(rows: list[dict[str, str]]) -> int:
    """Donors that untie the worst level of the factor from the worst platform column, counted one by one."""
    donors = {row["person_id"] for row in rows}
    worst = []
    for level in sorted({row["disease"] for row in rows}):
        worst.append(len({row["person_id"] for row in rows if row["disease"] == level}))
        for column in ("assay", "site"):
            if len({row[column] for row in rows}) < 2:
                continue
            pairs = []
            for place in sorted({row[column] for row in rows}):
                here = {(row["person_id"], row["disease"]) for row in rows if row[column] == place}
                having = sum((donor, level) in here for donor in donors)
                pairs.append(min(having, len(here) - having))
            worst.append(max(pairs))
    return min(worst)


def test_500_designs_of_donors_are_refused_if_and_only_if_their_rank_is_deficient():
    found: Counter[str] = Counter()
    held_out = [
        {"dataset_id": "e", "person_id": f"q{n}", "batch": f"c{n}", "assay": "v0", "site": "s0", "disease": f"x{n}"}
        for n in range(2)
    ]
    for number in range(500):
        rows = donor_design(np.random.default_rng(10_000 + number))
        cells = cells_of(rows + held_out)
        everyone = np.arange(len(cells))
        verdict = donor_claim(
            cells, factor="disease", train_rows=everyone[: len(rows)], test_rows=everyone[len(rows) :]
        )
        expected = "REFUSED" if is_deficient(rows) else "QUALIFIED" if fewest_untying(rows) < 3 else "SCORED"
        assert verdict.status.value == expected, (number, rows, verdict)
        found[expected] += 1
    assert min(found.values()) >= 25
    assert len(found) == 3
