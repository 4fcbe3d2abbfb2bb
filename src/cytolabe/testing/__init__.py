"""Simulated contributions with known truth and planted faults, and snapshots in memory."""
