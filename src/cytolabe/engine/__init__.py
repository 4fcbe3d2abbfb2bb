"""Runs independent tasks: one protocol, `Engine.map`; in processes on this machine, or on a Ray cluster."""

from cytolabe.engine.lines import tell
from cytolabe.engine.local import LocalEngine, run_tasks
from cytolabe.engine.protocol import Engine
from cytolabe.engine.ray import RayEngine
from cytolabe.engine.shortage import memory_shortage, naming_shortage, shortage_told

__all__ = [
    "Engine",
    "LocalEngine",
    "RayEngine",
    "memory_shortage",
    "naming_shortage",
    "run_tasks",
    "shortage_told",
    "tell",
]
