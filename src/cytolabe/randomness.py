"""One seed, named generators.

`rng_for(seed, "split", "person")` always gives the same stream, whatever ran before, so that one step never
disturbs another. Nothing in Cytolabe draws from a global generator.
"""

import hashlib

import numpy as np

__all__ = ["derive_seed", "rng_for"]


def derive_seed(seed: int, *names: str) -> int:
    """Return the 63-bit seed of the stream called `names` under `seed`.

    Parameters
    ----------
    seed
        The one seed of a run, 0 or greater.
    names
        The path of the stream, for example `"evaluate", "bootstrap"`.
    """
    key = "\x1f".join((str(seed), *names)).encode()
    return int.from_bytes(hashlib.sha256(key).digest()[:8], "little") >> 1


def rng_for(seed: int, *names: str) -> np.random.Generator:
    """Return the generator of the stream called `names` under `seed`."""
    return np.random.default_rng(derive_seed(seed, *names))
