"""Types of arguments are checked at every call of a test, and shapes of arrays where a module states them."""

import numpy as np
import pytest
from beartype.roar import BeartypeCallHintParamViolation
from jaxtyping import TypeCheckError

from cytolabe.files import sha256_of_file
from cytolabe.metrics.classification import accuracy


def test_an_argument_of_another_type_is_an_error():
    with pytest.raises(BeartypeCallHintParamViolation, match="path"):
        sha256_of_file("a text")


def test_two_arrays_over_the_same_cells_have_one_length():
    with pytest.raises(TypeCheckError):
        accuracy(np.array(["T", "B"]), np.array(["T", "B", "NK"]))
