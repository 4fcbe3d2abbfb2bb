"""Quality of cells: what is measured of each, flags by frozen thresholds, markers of lineages. Nothing is removed."""
