"""Read one modality of a MuData file: the one that holds gene expression.

Which one that is shows in its name (`rna`, `gex`), else in the types of its features; a file with one modality leaves
no choice, and where several could be meant the manifest decides (`part = "rna"`). Columns that were given to the cells
of all modalities together are joined by the names of the cells. The other modalities are named in a finding.
"""

import re
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import cached_property
from pathlib import Path

import pandas as pd

from cytolabe.errors import RefusedError
from cytolabe.ingest.anndata import AnnDataSource, said_beside
from cytolabe.ingest.features import kinds_of_features
from cytolabe.ingest.hdf5_files import open_hdf5
from cytolabe.ingest.nodes import GroupNode, is_group
from cytolabe.ingest.refusals import readable, refusal
from cytolabe.ingest.simulated_stamp import SIMULATED
from cytolabe.ingest.tables import ContributedTable, read_table
from cytolabe.records import Finding, Severity

__all__ = ["open_h5mu"]

_RNA_NAME = re.compile(
    r"(sc|sn)?_?(rna|gex|genes?|gene_?expression|expression|transcriptome|mrna)(_?counts|_?seq)?", re.IGNORECASE
)
_RNA_KIND = "gene expression"


@contextmanager
def open_h5mu(path: Path, *, part: str = "", is_known: bool = False) -> Iterator[AnnDataSource]:
    """Open the modality of gene expression of a scanned file.

    Raises
    ------
    UnreadableInputError
        If bytes are damaged.
    RefusedError
        If no modality, or more than one, could be meant; or if its tables contradict themselves.
    """
    with ExitStack() as cleanup:
        with readable(path.name):
            file = cleanup.enter_context(open_hdf5(path))
            modalities = {name: node for name, node in file["mod"].items() if is_group(node) and "obs" in node}
            chosen = _choose(path, modalities, part)
        opened = _Modality(path, file, cleanup, part=chosen)
        if not is_known:
            opened.look()
        yield opened


class _Modality(AnnDataSource):
    """One modality, with the columns of the file as a whole."""

    def __init__(self, path: Path, whole: GroupNode, cleanup: ExitStack, *, part: str) -> None:
        super().__init__(path, whole["mod"][part], cleanup, part=part)
        self._whole = whole

    @cached_property
    def _obs(self) -> ContributedTable:
        own = read_table(self._file["obs"], "obs", self._uns)
        if not is_group(self._whole.get("obs")):
            return own
        return _joined(own, read_table(self._whole["obs"], "obs", None), self._whole["mod"])

    @cached_property
    def uns_keys(self) -> tuple[str, ...]:
        """Names inside `uns` of the modality; that its cells are simulated may be said of the file as a whole."""
        whole = self._whole.get("uns")
        marks = {SIMULATED} & set(said_beside(whole if is_group(whole) else None))
        return tuple(sorted({*said_beside(self._uns), *marks}))

    @property
    def findings(self) -> tuple[Finding, ...]:
        """What could not be read or is not kept of the file, the other modalities first."""
        others = [name for name in self._whole["mod"] if name != self._part]
        return (*_left_out(self.path, others), *super().findings)


def _choose(path: Path, modalities: dict[str, GroupNode], part: str) -> str:
    if part in modalities:
        return part
    named = [name for name in modalities if _RNA_NAME.fullmatch(name)]
    typed = [name for name, node in modalities.items() if not named and _is_rna(node)]
    could = sorted(named or typed or modalities)
    if len(could) == 1 and not part:
        return could[0]
    message = f"The file has {len(modalities)} modalities ({', '.join(sorted(modalities))}), and "
    message += f"none is named {part!r}." if part else f"{len(could)} of them could be gene expression."
    finding = Finding(
        code="E-H5MU-01",
        severity=Severity.ERROR,
        where=path.name,
        n_affected=len(could),
        n_total=len(modalities),
        examples=tuple(could[:5]),
        message=message,
        remedy=f"Say in the manifest which one holds the genes: part = {could[0]!r}." if could else "Add a modality.",
        rule="cytolabe/sources",
    )
    raise refusal(RefusedError, [finding])


def _is_rna(node: GroupNode) -> bool:
    """Tell whether a modality says of all its features that they are genes."""
    if "var" not in node:
        return False
    kinds = kinds_of_features(read_table(node["var"], "var", None).columns)
    return bool(kinds) and all(kind.strip().lower() == _RNA_KIND for kind in kinds)


def _joined(own: ContributedTable, whole: ContributedTable, modalities: GroupNode) -> ContributedTable:
    """Add the columns of the whole file that are no copies of a modality's, where the names of its cells are unique."""
    prefixes = tuple(f"{name}:" for name in modalities)
    names = [
        str(name)
        for name in whole.columns.columns
        if not str(name).startswith(prefixes) and name not in own.columns.columns
    ]
    place = {name: row for row, name in enumerate(whole.names)}
    if not names or len(place) != len(whole.names) or not set(own.names) <= set(place):
        return own
    rows = [place[name] for name in own.names]
    added = whole.columns[names].iloc[rows].reset_index(drop=True)
    columns = pd.concat([own.columns, added], axis=1)
    return ContributedTable(names=own.names, columns=columns, findings=(*own.findings, *whole.findings))


def _left_out(path: Path, others: list[str]) -> tuple[Finding, ...]:
    if not others:
        return ()
    finding = Finding(
        code="N-SOURCE-07",
        severity=Severity.NOTE,
        where=path.name,
        n_affected=len(others),
        n_total=len(others) + 1,
        examples=tuple(sorted(others)[:5]),
        message=f"{len(others)} parts of the source are not gene expression and are not kept: {', '.join(sorted(others)[:5])}.",
        remedy="Nothing to do: the file itself is named by its digest.",
        rule="cytolabe/facts",
    )
    return (finding,)
