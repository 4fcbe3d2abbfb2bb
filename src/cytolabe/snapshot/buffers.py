"""Arrays that are filled again and again: fresh memory for every minibatch costs more than filling it."""

import numpy as np

__all__ = ["Buffers"]


class Buffers:
    """Arrays that are filled again and again, and grow where they must."""

    def __init__(self) -> None:
        self._arrays: dict[str, np.ndarray] = {}

    def array(self, name: str, shape: int | tuple[int, ...], dtype: type) -> np.ndarray:
        """Return an array of a shape, whatever is in it."""
        size = int(np.prod(shape))
        kept = self._arrays.get(name)
        if kept is None or len(kept) < size:
            kept = np.empty(size + size // 4, dtype=dtype)
            self._arrays[name] = kept
        return kept[:size].reshape(shape)

    def gene_scratch(self, n_genes: int) -> tuple[np.ndarray, np.ndarray]:
        """Return a table of zeros and a list, both as long as the genes."""
        if "table" not in self._arrays:
            self._arrays["table"] = np.zeros(max(1, n_genes), np.int32)
        return self._arrays["table"], self.array("marked", max(1, n_genes), np.int32)
