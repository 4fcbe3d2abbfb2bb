"""Runs independent tasks: one protocol, `run_tasks`; today in processes on this machine."""

from cytolabe.engine.local import run_tasks

__all__ = ["run_tasks"]
