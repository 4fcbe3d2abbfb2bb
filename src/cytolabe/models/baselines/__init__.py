"""Floors and plain baselines: what a model has to beat before anybody believes in it."""
