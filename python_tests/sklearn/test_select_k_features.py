"""SelectKFeatures for tables: scikit-learn's checks, what it selects, determinism, errors."""

import numpy as np
import pytest
import torch

pytest.importorskip("sklearn")

from sklearn.datasets import load_iris, make_classification
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.utils.estimator_checks import parametrize_with_checks

from drpm.sklearn import SelectKFeatures

FAST = {"max_iter": 150, "learning_rate": 0.1, "batch_size": 64, "random_state": 0}


@parametrize_with_checks(
    [
        SelectKFeatures(max_iter=2),
        SelectKFeatures(k=1, max_iter=2),
        SelectKFeatures(k=1, law="plackett-luce", max_iter=2),
    ]
)
def test_scikit_learn_checks(estimator, check):
    check(estimator)


def table(seed=0, rows=300, columns=20):
    """Column 0 twice more under noise (12, 13), and a target of columns 0, 3 and 7."""
    random = np.random.default_rng(seed)
    x = random.normal(size=(rows, columns))
    x[:, 12:14] = x[:, :1] + 0.3 * random.normal(size=(rows, 2))
    return x, 2 * x[:, 0] + x[:, 3] - x[:, 7] + 0.1 * random.normal(size=rows)


@pytest.mark.parametrize("law", ["conditional-bernoulli", "plackett-luce"])
def test_it_selects_what_is_needed_together(law):
    """Copies of the best column score next best by themselves, and add nothing."""
    x, y = table()
    found = SelectKFeatures(3, law=law, **FAST).fit(x, y)
    assert found.get_support(indices=True).tolist() == [0, 3, 7]
    assert np.abs(np.corrcoef(x.T, y)[-1, [12, 13]]).min() > np.abs(np.corrcoef(x.T, y)[-1, [3, 7]]).max()
    classes = np.where(y > 0.5, "high", np.where(y > -0.5, "middle", "low"))
    assert SelectKFeatures(3, law=law, **FAST).fit(x, classes).get_support(indices=True).tolist() == [0, 3, 7]


def test_a_learned_k_follows_the_price():
    x, y = table()
    sizes = [SelectKFeatures("learned", price=price, **FAST).fit(x, y).k_ for price in (0.5, 0.02, 1e-5)]
    assert sizes[0] == 1 and sizes[1] == 3 and sizes[2] > 3
    found = SelectKFeatures("learned", price=0.02, **FAST).fit(x, y)
    assert found.get_support(indices=True).tolist() == [0, 3, 7]


def test_units_columns_and_several_outputs():
    x, y = table()
    both = np.column_stack([y, x[:, 5]])
    first = SelectKFeatures(4, **FAST).fit(x, both)
    assert first.get_support(indices=True).tolist() == [0, 3, 5, 7]
    scaled = SelectKFeatures(4, **FAST).fit(np.ldexp(x, np.arange(20) * 40 - 400), both)
    assert np.array_equal(first.scores_, scaled.scores_)


def test_numpy_in_numpy_out_and_the_way_back():
    iris = load_iris(as_frame=False)
    few = SelectKFeatures(2, **FAST).fit(iris.data, iris.target)
    out = few.transform(iris.data)
    assert isinstance(out, np.ndarray) and out.shape == (150, 2) and few.k_ == 2
    back = few.inverse_transform(out)
    support = few.get_support()
    assert np.array_equal(back[:, support], out) and (back[:, ~support] == 0).all()
    names = few.get_feature_names_out(iris.feature_names)
    assert names.tolist() == [name for name, kept in zip(iris.feature_names, support, strict=True) if kept]
    assert set(names) == {"petal length (cm)", "petal width (cm)"}


def test_the_same_random_state_gives_the_same_columns():
    x, y = make_classification(200, 30, n_informative=5, random_state=0)
    state = torch.random.get_rng_state()
    scores = [SelectKFeatures(5, max_iter=20, random_state=seed).fit(x, y).scores_ for seed in (3, 3, 4)]
    assert np.array_equal(scores[0], scores[1]) and not np.array_equal(scores[0], scores[2])
    assert torch.equal(state, torch.random.get_rng_state())
    assert np.array_equal(scores[0], SelectKFeatures(5, max_iter=20, random_state=3).fit(x, y).scores_)


def test_in_a_pipeline_it_is_about_as_good_as_all_columns():
    x, y = make_classification(300, 40, n_informative=4, n_redundant=0, class_sep=1.5, random_state=2)
    few = make_pipeline(SelectKFeatures(4, **FAST), LogisticRegression())
    assert cross_val_score(few, x, y, cv=3).mean() > cross_val_score(LogisticRegression(), x, y, cv=3).mean() - 0.01


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"k": 0}, "SelectKFeatures: k must be >= 1, got 0"),
        ({"k": 21}, "SelectKFeatures: k must be at most the number of features, 20, got 21"),
        ({"k": 2.5}, "SelectKFeatures: k must be an int or 'learned', got 2.5"),
        ({"k": "some"}, "SelectKFeatures: k must be an int or 'learned', got 'some'"),
        ({"price": 0.0}, "SelectKFeatures: price must be a positive, finite float, got 0.0"),
        ({"task": "ranking"}, "SelectKFeatures: task must be one of"),
        ({"law": "poisson"}, "SelectKFeatures: law must be one of"),
        ({"max_iter": 0}, "SelectKFeatures: max_iter must be >= 1, got 0"),
        ({"learning_rate": np.inf}, "SelectKFeatures: learning_rate must be a positive, finite float, got inf"),
        ({"task": "classification"}, "SelectKFeatures: y must hold one class for each row"),
    ],
)
def test_errors_say_what_is_wrong(given, message):
    x, y = table(rows=20)
    with pytest.raises(ValueError, match=message):
        SelectKFeatures(**given).fit(x, y)
    with pytest.raises(ValueError, match="y must hold numbers with task='regression'"):
        SelectKFeatures(task="regression").fit(x, np.where(y > 0, "a", "b"))
