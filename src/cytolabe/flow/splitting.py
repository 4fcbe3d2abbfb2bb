"""A split as somebody asks for it, turned into a rule, planned, and handed over.

Columns of contributors' tables are looked up in every data set that is asked about, so that the rule names them one by
one; dates of data sets come from what their manifests declare. Both then stand in the file of the split.
"""

import dataclasses
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from cytolabe.audit import copied_pairs
from cytolabe.errors import UsageError
from cytolabe.models.cards import CARDS
from cytolabe.models.pretraining import corpora, corpora_of
from cytolabe.records import Finding, ModelCard
from cytolabe.snapshot.frozen import Snapshot
from cytolabe.snapshot.strata import contributed_columns
from cytolabe.split import SplitRule, plan_rule
from cytolabe.split.keys import CELLS, CONTRIBUTED, check_words
from cytolabe.split.plan import SplitPlan
from cytolabe.split.rule import ColumnOfWord, DateOf, RuleKind

__all__ = ["CONTROLS", "AskedSplit", "cutoff_of", "make_split", "rule_asked"]

CONTROLS = ("control", "ctrl", "CTRL", "non-targeting", "NT", "unperturbed")
"""What unperturbed cells are called where nobody says otherwise."""


@dataclass(frozen=True, kw_only=True)
class AskedSplit:
    """What somebody asks for; see the options of `cytolabe split`."""

    by: tuple[str, ...] = ("component",)
    test_fraction: float = 0.0
    n_folds: int = 0
    n_repeats: int = 1
    n_inner: int = 0
    after: str = ""
    cutoff_model: str = ""
    time_column: str = ""
    perturbation: str = ""
    unseen: bool = False
    controls: tuple[str, ...] = CONTROLS
    leaks: bool = False


def make_split(
    frozen: Snapshot, rule: SplitRule, *, seed: int = 0, on_finding: Callable[[Finding], None] = lambda _: None
) -> SplitPlan:
    """Plan a split of a snapshot by whole groups; cells that are copies of each other stay together.

    `on_finding` gets what was not searched for copies. It is no part of the plan, whose findings follow from its rule
    alone and are replayed.
    """
    if CELLS in rule.by:
        return plan_rule(frozen, rule, seed=seed)
    pairs, findings = copied_pairs(frozen)
    for finding in findings:
        on_finding(finding)
    return plan_rule(frozen, rule, seed=seed, duplicates=pairs)


def rule_asked(frozen: Snapshot, asked: AskedSplit) -> SplitRule:
    """Return the rule that somebody asks for.

    Raises
    ------
    UsageError
        If it asks for two kinds at once, for single cells without saying that this leaks, or for columns or dates
        that no data set has.
    """
    kind = _kind(asked)
    if CELLS in asked.by and not asked.leaks:
        msg = "A split by cells puts cells of one person, library and data set on both sides: every score of it is too high. Use `cytolabe benchmark --ladder` to see by how much, or say --i-know-this-leaks; it is stamped on every output."
        raise UsageError(msg)
    after = cutoff_of(asked.cutoff_model) if asked.cutoff_model else asked.after
    by = ("perturbation",) if kind is RuleKind.UNSEEN_PERTURBATION else asked.by
    is_timed = kind is RuleKind.AFTER_DATE or "time" in by
    return SplitRule(
        kind=kind,
        by=check_words(by, may_leak=asked.leaks),
        test_fraction=asked.test_fraction or None,
        n_folds=asked.n_folds or None,
        n_repeats=asked.n_repeats,
        n_inner=asked.n_inner,
        columns=_columns(frozen, by, asked, is_timed=is_timed),
        dates=_dates(frozen, of_samples=bool(asked.cutoff_model)) if is_timed else (),
        after=after,
        cutoff_of=asked.cutoff_model,
        controls=asked.controls if kind is RuleKind.UNSEEN_PERTURBATION else (),
    )


def cutoff_of(model: str) -> str:
    """Return the day by which the pretraining of a model was surely closed: of the corpora that its card names.

    Parameters
    ----------
    model
        A model of the registry, published weights that the ledger of pretraining knows, or a file `x.json` of a card
        with `name` and `pretraining`.

    Raises
    ------
    UsageError
        If the card names no corpus of the ledger, or nobody knows when one of them was closed.
    """
    found = corpora_of(_card(model))
    if not found or not all(corpus.not_after for corpus in found):
        told = f"; nothing dates {', '.join(corpus.corpus_id for corpus in found)}" if found else ""
        known = sorted({name for corpus in corpora().values() if corpus.not_after for name in corpus.models})
        msg = f"The card of {model} leads to no corpus with a known end{told}. Give a day with --after, or one of {', '.join(known[:12])}."
        raise UsageError(msg)
    return max(corpus.not_after for corpus in found)


def _card(model: str) -> ModelCard:
    if not model.endswith(".json"):
        return CARDS.get(model, dataclasses.replace(CARDS["majority"], name=model))
    try:
        told = json.loads(Path(model).read_bytes())
        return dataclasses.replace(
            CARDS["majority"], name=str(told["name"]), pretraining=tuple(map(str, told.get("pretraining", ())))
        )
    except (OSError, ValueError, KeyError, TypeError) as error:
        msg = f"{model} is no model card with a name and a pretraining: {error}."
        raise UsageError(msg) from None


def _kind(asked: AskedSplit) -> RuleKind:
    kinds = {
        "--after or --after-cutoff": bool(asked.after or asked.cutoff_model),
        "--unseen-perturbations": asked.unseen,
        "--folds": bool(asked.n_folds),
        "--test-fraction": bool(asked.test_fraction) and not asked.unseen,
    }
    said = [name for name, is_said in kinds.items() if is_said]
    if len(said) > 1 or (asked.after and asked.cutoff_model):
        msg = f"{' and '.join(said)} are different ways to split; give one."
        raise UsageError(msg)
    if asked.unseen:
        if not asked.test_fraction:
            msg = "--unseen-perturbations holds out a share of the genes; give it with --test-fraction."
            raise UsageError(msg)
        return RuleKind.UNSEEN_PERTURBATION
    if kinds["--after or --after-cutoff"]:
        return RuleKind.AFTER_DATE
    if asked.n_folds:
        return RuleKind.GROUPED_FOLDS
    return RuleKind.HOLD_OUT_GROUPS if asked.test_fraction else RuleKind.LEAVE_ONE_GROUP_OUT


def _columns(frozen: Snapshot, by: Sequence[str], asked: AskedSplit, *, is_timed: bool) -> tuple[ColumnOfWord, ...]:
    """Return the contributors' columns behind the words, of the data sets that have them."""
    wanted = {word: word.removeprefix(CONTRIBUTED) for word in by if word.startswith(CONTRIBUTED)}
    if asked.perturbation:
        wanted["perturbation"] = asked.perturbation
    if is_timed and asked.time_column:
        wanted["time"] = asked.time_column
    found: list[ColumnOfWord] = []
    for word, column in wanted.items():
        own = [name for name in frozen.entries if column in contributed_columns(frozen, name)]
        if not own:
            msg = f"No data set of the snapshot has a column {column!r} of its contributor."
            raise UsageError(msg)
        found += [ColumnOfWord(word=word, dataset_id=name, column=column) for name in own]
    return tuple(found)


def _dates(frozen: Snapshot, *, of_samples: bool) -> tuple[DateOf, ...]:
    """Return when the cells of each data set are from, as its manifest declares.

    Against a cut-off only the days of the samples count: since `collected`, and before they were published. A data set
    that was published late may hold what circulated early.
    """
    dates = []
    for name, record in frozen.datasets.items():
        published, collected = (record.declared.get(key, "") for key in ("date", "collected"))
        interval = f"{collected or '..'}/{published or '..'}" if collected or published else ""
        dates.append(DateOf(dataset_id=name, date=interval if of_samples else published or interval))
    return tuple(dates)
