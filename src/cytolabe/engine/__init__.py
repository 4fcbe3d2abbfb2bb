"""Runs independent tasks: one protocol, `Engine.map`; in processes on this machine, or on a Ray cluster."""

from cytolabe.engine.lines import tell
from cytolabe.engine.local import LocalEngine, run_tasks
from cytolabe.engine.protocol import Engine
from cytolabe.engine.ray import RayEngine

__all__ = ["Engine", "LocalEngine", "RayEngine", "run_tasks", "tell"]
