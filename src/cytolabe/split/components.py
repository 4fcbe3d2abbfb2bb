"""Connected components: the largest groups of cells that a split may separate without sharing what was asked for.

The graph has the nodes of `keys.node_columns`; its edges come, in this order, from cells (all nodes of one cell belong
together), from links (two data sets that somebody says, or cannot disprove, share persons) and from identical cells.
Links and joins act on whole nodes, so a component can be recomputed from a short rule instead of a list of cells.
Names come from the sorted values of the first word: they depend neither on the order of the cells nor on the run.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from jaxtyping import Shaped
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components as _graph_components

from cytolabe.errors import UsageError
from cytolabe.snapshot.strata import N_CELLS
from cytolabe.split.keys import check_words, is_person_resolved, node_columns

__all__ = ["Components", "Join", "Link", "components_with", "connected_components", "joins_between"]

_NAMES_SHOWN = 3


@dataclass(frozen=True)
class Link:
    """Two data sets that must stay together, and why (for example a donor that nobody could tell apart)."""

    dataset_a: str
    dataset_b: str
    reason: str


@dataclass(frozen=True, kw_only=True)
class Join:
    """Two groups that share `n_pairs` pairs of identical cells; groups are nodes of the first word of a split."""

    group_a: str
    group_b: str
    n_pairs: int


@dataclass(frozen=True, kw_only=True)
class Components:
    """Which component each cell belongs to.

    `label_of_row` names a component per row of the table of cells. `table` has one row per component, sorted by
    name: component, datasets (tuple), persons (tuple of resolved persons), n_cells, reasons (tuple: what joined it).
    """

    label_of_row: Shaped[np.ndarray, " cells"]
    table: pd.DataFrame


def connected_components(
    cells: pd.DataFrame,
    *,
    by: Sequence[str],
    links: Sequence[Link] = (),
    duplicates: pd.DataFrame | None = None,
) -> Components:
    """Find the groups of cells that share nothing of what `by` names.

    Parameters
    ----------
    cells
        A table of cells or of strata; where it has a column `n_cells`, a row stands for so many cells.
    by
        Words of `keys.VOCABULARY`; `component` stands for study + person + shared cells.
    links
        Data sets to keep together whatever their names say.
    duplicates
        Pairs of identical cells: positions `a_row` and `b_row` in `cells`.

    Raises
    ------
    UsageError
        If a word is unknown, or a link names a data set that is not in the table.
    """
    words = check_words(by)
    return components_with(cells, by=words, links=links, joins=joins_between(cells, by=words, duplicates=duplicates))


def joins_between(cells: pd.DataFrame, *, by: Sequence[str], duplicates: pd.DataFrame | None) -> tuple[Join, ...]:
    """Summarize pairs of identical cells as joins between the groups of the first word, sorted."""
    if duplicates is None or duplicates.empty:
        return ()
    first = node_columns(cells, by[0])[0]
    pairs = zip(first[duplicates["a_row"].to_numpy()], first[duplicates["b_row"].to_numpy()], strict=True)
    # Pairs inside one group join nothing, and stay in the rule as evidence of why it is one group.
    counts = Counter((min(a, b), max(a, b)) for a, b in pairs)
    return tuple(Join(group_a=a, group_b=b, n_pairs=counts[a, b]) for a, b in sorted(counts))


def components_with(
    cells: pd.DataFrame, *, by: Sequence[str], links: Sequence[Link], joins: Sequence[Join]
) -> Components:
    """Find the components when shared cells were already summarized as joins; see `connected_components`."""
    columns = [column for word in by for column in node_columns(cells, word)]
    columns += _link_columns(cells, links)
    codes, names = _coded(columns)
    component = _component_of_node(codes, names, joins)[codes[0]] if len(cells) else np.zeros(0, dtype=np.int64)
    label_of_component = _component_names(names, codes[0], component)
    label_of_row = np.array([label_of_component[number] for number in component], dtype=object)
    return Components(label_of_row=label_of_row, table=_table(cells, label_of_row, columns, joins=joins, links=links))


def _link_columns(cells: pd.DataFrame, links: Sequence[Link]) -> list[np.ndarray]:
    """Return one node column per link: both data sets hold its node."""
    datasets = cells["dataset_id"].to_numpy(dtype=object)
    columns = []
    for number, link in enumerate(links):
        for name in (link.dataset_a, link.dataset_b):
            if not (datasets == name).any():
                msg = f"A link names data set {name!r}, which is not in the snapshot; correct or remove the link."
                raise UsageError(msg)
        both = (datasets == link.dataset_a) | (datasets == link.dataset_b)
        columns.append(np.where(both, f"link={number}", ""))
    return columns


def _coded(columns: list[np.ndarray]) -> tuple[list[np.ndarray], np.ndarray]:
    """Give all nodes of all columns a number; equal names are one node, and -1 stands for no node."""
    values, names = pd.factorize(np.concatenate(columns), sort=True)
    numbers = np.asarray(values, dtype=np.int64)
    empty = np.flatnonzero(names == "")
    if empty.size:
        numbers = np.where(numbers == empty[0], -1, numbers)
    return np.split(numbers, len(columns)), np.asarray(names, dtype=object)


def _component_of_node(codes: list[np.ndarray], names: np.ndarray, joins: Sequence[Join]) -> np.ndarray:
    edges = [np.unique(np.stack([codes[0], other])[:, other >= 0], axis=1) for other in codes[1:]]
    position: Mapping[str, int] = {name: number for number, name in enumerate(names)}
    for join in joins:
        missing = [group for group in (join.group_a, join.group_b) if group not in position]
        if missing:
            msg = f"Identical cells join {missing[0]!r}, which is no group of this snapshot; find duplicates again."
            raise UsageError(msg)
        edges.append(np.array([[position[join.group_a]], [position[join.group_b]]]))
    sources, targets = np.concatenate([np.zeros((2, 0), dtype=np.int64), *edges], axis=1)
    graph = coo_matrix((np.ones(len(sources), dtype=np.int8), (sources, targets)), shape=(len(names), len(names)))
    return np.asarray(_graph_components(graph, directed=False)[1], dtype=np.int64)


def _component_names(names: np.ndarray, first_codes: np.ndarray, component: np.ndarray) -> dict[int, str]:
    """Name each component by its sorted values of the first word; equal names get a number."""
    members: dict[int, list[str]] = {}
    for node, number in sorted(set(zip(first_codes.tolist(), component.tolist(), strict=True))):
        members.setdefault(number, []).append(str(names[node]).split("=", 1)[1])
    labels: dict[int, str] = {}
    taken: dict[str, int] = {}
    for values, number in sorted((sorted(values), number) for number, values in members.items()):
        shown = "+".join(values[:_NAMES_SHOWN])
        label = shown if len(values) <= _NAMES_SHOWN else f"{shown}+{len(values) - _NAMES_SHOWN}_more"
        taken[label] = taken.get(label, 0) + 1
        labels[number] = label if taken[label] == 1 else f"{label}#{taken[label]}"
    return labels


def _table(
    cells: pd.DataFrame,
    label_of_row: np.ndarray,
    columns: list[np.ndarray],
    *,
    joins: Sequence[Join],
    links: Sequence[Link],
) -> pd.DataFrame:
    shared = _shared_nodes(cells, label_of_row, columns)
    component_of_node = dict(zip(columns[0].tolist(), label_of_row.tolist(), strict=True))
    component_of_dataset = dict(zip(cells["dataset_id"].tolist(), label_of_row.tolist(), strict=True))
    weights = cells[N_CELLS].tolist() if N_CELLS in cells else [1] * len(cells)
    n_cells: Counter[str] = Counter()
    for component, weight in zip(label_of_row.tolist(), weights, strict=True):
        n_cells[component] += weight
    datasets = _members(label_of_row, cells["dataset_id"].to_numpy(dtype=object))
    resolved = is_person_resolved(cells)
    persons = _members(label_of_row[resolved], cells["person_id"].to_numpy(dtype=object)[resolved])
    rows = []
    for component in sorted(n_cells):
        reasons = shared.get(component, [])
        reasons += [f"link: {x.reason}" for x in links if component_of_dataset[x.dataset_a] == component]
        reasons += [
            f"{x.n_pairs} identical cell pair(s): {x.group_a}, {x.group_b}"
            for x in joins
            if component_of_node[x.group_a] == component
        ]
        facts = (datasets[component], persons.get(component, ()), n_cells[component], tuple(reasons))
        rows.append((component, *facts))
    return pd.DataFrame(rows, columns=["component", "datasets", "persons", "n_cells", "reasons"])


def _members(label_of_row: np.ndarray, values: np.ndarray) -> dict[str, tuple[str, ...]]:
    """Return the distinct values of each component, sorted."""
    found: dict[str, list[str]] = {}
    for component, value in sorted(set(zip(label_of_row.tolist(), values.tolist(), strict=True))):
        found.setdefault(component, []).append(value)
    return {component: tuple(members) for component, members in found.items()}


def _shared_nodes(cells: pd.DataFrame, label_of_row: np.ndarray, columns: list[np.ndarray]) -> dict[str, list[str]]:
    """Say for each component which nodes span several data sets, and which data sets unknown names tie together."""
    datasets = cells["dataset_id"].tolist()
    found: dict[str, set[str]] = {}
    for column in columns:
        spans = Counter((a, b) for a, b, _ in set(zip(label_of_row.tolist(), column.tolist(), datasets, strict=True)))
        for (component, node), n_datasets in spans.items():
            word, _, value = node.partition("=")
            if word == "unresolved":
                found.setdefault(component, set()).add(f"unknown names in {value}")
            elif n_datasets > 1 and word not in {"", "link"}:
                found.setdefault(component, set()).add(f"{node} in {n_datasets} data sets")
    return {component: sorted(reasons) for component, reasons in found.items()}
