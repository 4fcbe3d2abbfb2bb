import numpy as np
import pytest

from cytolabe.errors import RefusedError, UnseenLevelsError
from cytolabe.models.baselines.metadata import MetadataOnly

LABELS = np.array(["A", "A", "B", "B"], dtype=object)


def _with_assay(view, assays):
    technical = view.technical.copy()
    technical["assay"] = assays
    return technical


def test_type_that_is_nested_in_an_assay_is_predicted_from_it(make_train, make_query):
    train, query = make_train(4, labels=LABELS), make_query(2)
    train.technical["assay"] = ["x", "x", "y", "y"]
    output = (
        MetadataOnly().fit(train, query=None, seed=0).predict(make_query(2, technical=_with_assay(query, ["y", "x"])))
    )
    np.testing.assert_allclose(output.probability, [[0, 1], [1, 0]])


def test_unseen_levels_are_not_applicable_rather_than_guessed(make_train, make_query):
    train, query = make_train(4, labels=LABELS), make_query(2)
    fitted = MetadataOnly().fit(train, query=None, seed=0)
    with pytest.raises(UnseenLevelsError, match="not applicable: test levels unseen") as caught:
        fitted.predict(make_query(2, technical=_with_assay(query, ["new", "newer"])))
    assert isinstance(caught.value, RefusedError)


def test_some_unseen_cells_get_the_class_shares_and_are_counted(make_train, make_query):
    train, query = make_train(4, labels=LABELS), make_query(2)
    fitted = MetadataOnly().fit(train, query=None, seed=0)
    seen = train.technical["assay"].iloc[0]
    output = fitted.predict(make_query(2, technical=_with_assay(query, [seen, "new"])))
    np.testing.assert_allclose(output.probability, [[0.5, 0.5], [0.5, 0.5]])
    assert fitted.notes == ("metadata levels unseen for 1 of 2 cells: class shares used",)


def test_cells_of_which_nothing_is_known_are_not_a_level(make_train, make_query):
    nothing = dict.fromkeys(("assay", "site", "suspension_type"), "unknown")
    train, query = make_train(4, labels=LABELS), make_query(2)
    for column, word in nothing.items():
        train.technical[column] = word
        query.technical[column] = word
    with pytest.raises(UnseenLevelsError):
        MetadataOnly().fit(train, query=None, seed=0).predict(query)


def test_dataset_and_batch_are_never_read(make_train, make_query):
    train = make_train(4, labels=LABELS)
    train.technical["batch"] = LABELS
    query = make_query(2)
    query.technical["batch"] = ["A", "B"]
    output = MetadataOnly().fit(train, query=None, seed=0).predict(query)
    np.testing.assert_allclose(output.probability, 0.5)
