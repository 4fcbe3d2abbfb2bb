"""What has to stand above every number of a page: that cells are simulated."""

from cytolabe.evaluate.verdicts import simulated_datasets
from cytolabe.snapshot.view import SnapshotView

__all__ = ["simulated_claim"]


def simulated_claim(snapshot: SnapshotView) -> tuple[str, ...]:
    """Say first of all that cells are simulated, whatever else is said of them."""
    names = sorted(simulated_datasets(snapshot))
    if not names:
        return ()
    which = "All" if len(names) == len(snapshot.datasets) else f"{len(names)} of {len(snapshot.datasets)}"
    told = ", ".join(names[:5]) + (", ..." if len(names) > 5 else "")
    return (f"SIMULATED: {which} data sets ({told}) are made up. No number on them says anything of real cells.",)
