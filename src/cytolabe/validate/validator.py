"""Run every rule of a pack on one data set and return all findings at once, so that a contributor goes round once."""

import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib import resources

import numpy as np
import pandas as pd
from jaxtyping import Int

from cytolabe.records import DatasetRecord, FeatureAlignment, Finding, Severity
from cytolabe.validate.rules import CHECKS, Check, Examined, Hit

__all__ = ["DEFAULT_PACK", "Rule", "load_pack", "validate_dataset"]

DEFAULT_PACK = "cytolabe-1"


@dataclass(frozen=True, kw_only=True)
class Rule:
    """One rule of a pack; `message` and `remedy` have places for what a check found."""

    code: str
    severity: Severity
    rule: str
    message: str
    remedy: str
    thresholds: Mapping[str, float]


@cache
def load_pack(name: str = DEFAULT_PACK) -> Mapping[str, Rule]:
    """Read a rule pack that comes with the package: code -> rule.

    Raises
    ------
    FileNotFoundError
        If there is no pack of that name.
    """
    text = resources.files("cytolabe.validate.packs").joinpath(f"{name}.toml").read_text(encoding="utf-8")
    return {
        entry["code"]: Rule(
            code=entry["code"],
            severity=Severity(entry["severity"]),
            rule=entry["rule"],
            message=entry["message"],
            remedy=entry["remedy"],
            thresholds={name: float(limit) for name, limit in entry.get("thresholds", {}).items()},
        )
        for entry in tomllib.loads(text)["rules"]
    }


def validate_dataset(
    record: DatasetRecord,
    *,
    cells: pd.DataFrame,
    alignment: FeatureAlignment,
    cell_totals: Int[np.ndarray, " cells"],
    checks: Sequence[Check] = CHECKS,
) -> tuple[Finding, ...]:
    """Check one data set.

    Parameters
    ----------
    record
        What was delivered and proven.
    cells
        The standard table of cells.
    alignment
        What became of its features.
    cell_totals
        Counts per cell over all features.
    checks
        Which checks; `GENE_CHECKS` are those that another alignment changes.
    """
    pack = load_pack()
    thresholds = {code: rule.thresholds for code, rule in pack.items()}
    examined = Examined(record=record, cells=cells, alignment=alignment, cell_totals=cell_totals)
    return tuple(_finding(pack[hit.code], hit) for check in checks for hit in check(examined, thresholds))


def _finding(rule: Rule, hit: Hit) -> Finding:
    values = {"n_affected": f"{hit.n_affected:,}", "n_total": f"{hit.n_total:,}", **hit.values}
    return Finding(
        code=rule.code,
        severity=rule.severity,
        where=hit.where,
        n_affected=hit.n_affected,
        n_total=hit.n_total,
        examples=hit.examples,
        message=rule.message.format_map(values),
        remedy=rule.remedy,
        rule=rule.rule,
    )
