"""Every threshold of an evaluation in one table: frozen before scoring, versioned, and part of the certificate."""

from collections.abc import Mapping

from cytolabe.evaluate.controls import N_CEILING_FOLDS
from cytolabe.evaluate.gene_space import PANEL_GENES
from cytolabe.evaluate.labels import MIN_HEADLINE_CELLS, RARE_TEST_FRACTION, RARE_TRAIN_CELLS
from cytolabe.evaluate.scoring import MIN_SEEDS
from cytolabe.metrics.intervals import MIN_DONORS_BOOTSTRAP, MIN_DONORS_INTERVAL, N_BOOTSTRAP

__all__ = ["THRESHOLDS"]

THRESHOLDS: Mapping[str, object] = {
    "version": 1,
    "min_headline_cells": MIN_HEADLINE_CELLS,
    "rare_test_fraction": RARE_TEST_FRACTION,
    "rare_train_cells": RARE_TRAIN_CELLS,
    "panel_genes": PANEL_GENES,
    "min_seeds": MIN_SEEDS,
    "min_donors_interval": MIN_DONORS_INTERVAL,
    "min_donors_bootstrap": MIN_DONORS_BOOTSTRAP,
    "n_bootstrap": N_BOOTSTRAP,
    "n_ceiling_folds": N_CEILING_FOLDS,
}
"""Name -> value. A change of any of these changes `version`."""
