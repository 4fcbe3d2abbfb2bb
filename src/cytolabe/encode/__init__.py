"""From counts to what a model reads. Kernels shared by streams and models."""

from cytolabe.encode.normalize import log1p_cp10k

__all__ = ["log1p_cp10k"]
