"""The relation of orthologs that an atlas keeps: an overlay that a table of the user's made, and that no snapshot's id covers.

It says what genes of another organism are, and changes no count, no alignment and no gene of the atlas.
"""

import dataclasses
from collections.abc import Sequence

import pandas as pd

from cytolabe.records import OrthologRow
from cytolabe.snapshot.atlas import Atlas
from cytolabe.snapshot.overlays import ORTHOLOGS
from cytolabe.store.leases import held_lease
from cytolabe.store.manifest import Change, Revision
from cytolabe.store.tables import read_table, write_table

__all__ = ["orthologs_of", "put_orthologs"]


def put_orthologs(atlas: Atlas, rows: Sequence[OrthologRow]) -> Revision:
    """Put a relation of orthologs in force in place of the one before; the same one again publishes nothing.

    Raises
    ------
    ConflictError
        If somebody else put another one in force in the meantime.
    """
    columns = [field.name for field in dataclasses.fields(OrthologRow)]
    values = [[getattr(row, column) for column in columns] for row in rows]
    frame = pd.DataFrame(values, columns=columns).astype(object)
    with held_lease(atlas.layout.leases, "write"):
        table = write_table(frame, atlas.layout.overlay(ORTHOLOGS))
        if table == atlas.state.overlays.get(ORTHOLOGS):
            return atlas.state
        return atlas.publish_change(Change(overlays={ORTHOLOGS: table}), author="", message="relate orthologs")


def orthologs_of(atlas: Atlas) -> tuple[OrthologRow, ...]:
    """Return the relation in force, sorted by the names of the table; empty where there is none."""
    if ORTHOLOGS not in atlas.state.overlays:
        return ()
    rows = read_table(atlas.layout.overlay(ORTHOLOGS), atlas.state.overlays[ORTHOLOGS]).to_dict("records")
    return tuple(OrthologRow(**{str(key): str(value) for key, value in row.items()}) for row in rows)
