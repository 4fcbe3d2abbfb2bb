"""What an annotation rests on, as a document for uns and `--json`, and as a step for the ledger of the atlas.

Persons are counted and never named: rows of units have no name. A filter is told by its digest where it could name somebody (in the ledger).
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

import numpy as np
import pandas as pd

from cytolabe.config.study import ModelSpec
from cytolabe.evaluate.documents import rounded
from cytolabe.evaluate.held_out_record import record_document
from cytolabe.flow.annotate import Annotation
from cytolabe.flow.answer_columns import STATUSES
from cytolabe.flow.query_file import MIN_AGREEMENT, MIN_COUNTS_FRACTION, MIN_GENES, MIN_GENES_FRACTION
from cytolabe.flow.recording import Step, model_parents
from cytolabe.provenance import artifact_of, digest_of, jsonable
from cytolabe.provenance.canonical import canonical_json
from cytolabe.records import NamedDigest

__all__ = ["annotate_step", "annotation_record"]


def annotation_record(made: Annotation, *, access: str) -> dict[str, Any]:
    """Return everything that the answers rest on, without paths, times or names of persons.

    Parameters
    ----------
    made
        The annotation.
    access
        Access class of the snapshot, or empty.
    """
    plan, gate, decisions = made.plan, made.gate, made.decisions
    record = {
        "format": "cytolabe-annotation-1",
        "snapshot_id": made.snapshot_id,
        "access": access or None,
        "ontology_release": made.ontology_release,
        "query": {
            "name": made.query.path.name,
            "sha256": made.query.sha256,
            "matrix": made.query.content.matrix.name,
            "n_cells": made.query.n_cells,
            "organism": made.query.content.record.organism,
        },
        "asked": {
            "model": plan.model,
            "options": _told_options(plan.options),
            "precision": plan.wish.precision,
            "novel_fraction": plan.wish.novel_fraction,
            "hold_out": plan.held_out,
            "where": plan.where,
            "seed": plan.seed,
        },
        "model": _model(made),
        "genes": {
            "n_model": gate.n_model_genes,
            "n_query": gate.n_query_genes,
            "n_shared": len(gate.genes),
            "genes_fraction": gate.genes_fraction,
            "counts_fraction": gate.counts_fraction,
            "query_counts_fraction": gate.query_counts_fraction,
            "agreement": gate.agreement,
            "bounds": {
                "n_shared": MIN_GENES,
                "genes_fraction": MIN_GENES_FRACTION,
                "counts_fraction": MIN_COUNTS_FRACTION,
                "agreement": MIN_AGREEMENT,
            },
            "digest": digest_of(gate.genes),
        },
        "reference": {
            "n_cells": len(made.reference.rows),
            "n_units": made.reference.n_units,
            "units": dict(made.reference.kinds),
            "n_folds": made.reference.n_folds,
            "left_out": dict(made.reference.left_out),
            "classes": list(made.space.hierarchy.classes),
        },
        "calibration": {
            "temperature": decisions.calibration.temperature,
            "offsets": dict(zip(decisions.calibration.classes, decisions.calibration.offset.tolist(), strict=True)),
            "n_cells": decisions.calibration.n_cells,
        },
        "thresholds": dict(decisions.thresholds.levels),
        "thresholds_chosen_on_cells": dict(decisions.thresholds.is_tuned),
        "term_thresholds": {
            term: float(least) if np.isfinite(least) else None
            for term, least in zip(made.space.answers.terms, decisions.thresholds.least, strict=True)
        },
        "held_out": record_document(made.held_out),
        "as_new_dataset": None if made.as_new_dataset is None else record_document(made.as_new_dataset),
        "open_set": _rows(made.open_set),
        "answers": _answers(made),
        "findings": list(made.findings),
        "notes": list(made.notes),
        "not_evaluated": list(made.not_evaluated),
    }
    return cast("dict[str, Any]", rounded(jsonable(record)))


def _model(made: Annotation) -> dict[str, object]:
    """Return which weights answered, and what they were trained on before."""
    card = made.card
    return {
        "name": card.name,
        "protocol": card.protocol.value,
        "weights": card.weights_digest or None,
        "pretraining": list(card.pretraining),
        "trained_on_cells": sum(scope.n_cells for scope in card.scopes),
        "facts": dict(made.facts),
    }


def _told_options(options: Mapping[str, object]) -> dict[str, object]:
    """Return options with a checkpoint by its name: a folder is where something lies, not what it is."""
    return {name: Path(str(value)).name if name == "checkpoint" else value for name, value in sorted(options.items())}


def _answers(made: Annotation) -> dict[str, Any]:
    prefix, table = made.plan.prefix, made.columns
    status = table[f"{prefix}_status"].value_counts()
    named = table.groupby([f"{prefix}_term_id", f"{prefix}_label"], sort=True).size().reset_index(name="n_cells")
    return {
        "status": {name: int(status.get(name, 0)) for name in STATUSES},
        "terms": [
            {"term": str(term), "name": str(name), "n_cells": int(n)}
            for term, name, n in sorted(named.itertuples(index=False, name=None), key=lambda row: (-row[2], row[0]))
        ],
    }


def _rows(table: pd.DataFrame) -> list[Any]:
    return list(table.astype(object).where(table.notna(), None).to_dict("records"))


def annotate_step(record: Mapping[str, Any], made: Annotation, out: Path, *, report: Path | None) -> Step:
    """Return the step that annotated a file, for the ledger."""
    asked = dict(record["asked"])
    where = str(asked.pop("where"))
    outputs = [artifact_of(out, "annotation"), *([artifact_of(report, "report")] if report is not None else [])]
    return Step(
        kind="annotate",
        parameters={**asked, "where_digest": digest_of(where) if where else ""},
        inputs=[artifact_of(made.query.path, "query")],
        outputs=outputs,
        parents=model_parents([ModelSpec(name=made.plan.model, options=made.plan.options)]),
        made=[NamedDigest(role="annotation", name=out.name, digest=digest_of(canonical_json(record).decode()))],
    )
