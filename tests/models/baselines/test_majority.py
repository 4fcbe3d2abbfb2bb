import numpy as np
import pytest

from cytolabe.errors import RefusedError
from cytolabe.models.baselines.majority import Majority
from cytolabe.models.protocols import Annotator, FittedAnnotator
from cytolabe.provenance import cells_digest


def test_every_cell_gets_the_class_shares_of_training(make_train, make_query):
    train = make_train(4, labels=np.array(["B", "A", "B", "B"], dtype=object))
    fitted = Majority().fit(train, query=None, seed=0)
    output = fitted.predict(make_query(3))
    assert output.classes == ("A", "B")
    np.testing.assert_allclose(output.probability, np.tile([0.25, 0.75], (3, 1)))


def test_unlabelled_cells_are_no_class(make_train, make_query):
    train = make_train(4, labels=np.array(["", "A", "", ""], dtype=object))
    assert Majority().fit(train, query=None, seed=0).predict(make_query(2)).classes == ("A",)


def test_training_without_a_label_is_refused(make_train):
    with pytest.raises(RefusedError, match="None of 4"):
        Majority().fit(make_train(4, labels=np.full(4, "", dtype=object)), query=None, seed=0)


def test_scope_names_the_training_cells(make_train):
    train = make_train(5)
    fitted = Majority().fit(train, query=None, seed=0)
    assert [scope.cells_digest for scope in fitted.scopes] == [cells_digest(train.cell_ids)]
    assert isinstance(Majority(), Annotator)
    assert isinstance(fitted, FittedAnnotator)
