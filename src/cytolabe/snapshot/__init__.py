"""Frozen snapshots of an atlas."""
