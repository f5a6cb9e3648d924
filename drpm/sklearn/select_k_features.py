"""Choose k columns of a table together, for a linear model of the target."""

from __future__ import annotations

import math
import numbers
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor, nn

try:
    from sklearn.base import BaseEstimator
    from sklearn.feature_selection import SelectorMixin
    from sklearn.utils import check_random_state
    from sklearn.utils.multiclass import type_of_target
    from sklearn.utils.validation import check_is_fitted, validate_data
except ImportError as error:
    raise ImportError(
        f"drpm.sklearn: needs scikit-learn >= 1.6; pip install 'drpm[sklearn]'. Reason: {error}"
    ) from error

from drpm.nn import SubsetSelector
from drpm.nn.subset_selector import LAWS

TASKS = ("auto", "classification", "regression")
_MASKS, _MASKS_OF_SIZES = 32, 8  # different subsets a batch; those of different sizes share no tree
_SCORED_ROWS = 10_000
_DENSE = 0.2  # share of the columns that a learned k starts from


class _Target(NamedTuple):
    values: Tensor  # (N,) int64 classes, or (N, outputs) standardised
    outputs: int
    unit: float  # the loss of a constant prediction: losses count in it


class SelectKFeatures(SelectorMixin, BaseEstimator):  # type: ignore[misc]
    """Select the k columns from which a linear model predicts the target best, chosen together.

    >>> from drpm.sklearn import SelectKFeatures
    >>> few = SelectKFeatures(k=5, random_state=0).fit_transform(table, target)
    >>> model = make_pipeline(SelectKFeatures(k=5), LogisticRegression())
    >>> SelectKFeatures("learned", price=0.02).fit(table, target).k_      # as many as are worth it

    A law of subsets of k columns is trained together with the model: each batch sees only the columns of subsets that
    are drawn, and the law's weights follow the gradient of its exact inclusion probabilities. Unlike a score of
    each column by itself, a column does not count for what those chosen already say.
    Columns are standardised inside, so their units change nothing; time is linear in the columns.

    Parameters:
        k: int >= 1, columns to select; or "learned": their number is random in training, too, and each costs `price`;
            then as many of the first columns by `scores_` as make unexplained variance (of the target, or of the
            classes' indicators, by least squares) plus price least.
        price: float > 0, what a column must save, in units of the loss of a constant prediction; of k="learned" alone.
        task: "classification" (logistic model), "regression" (squares), or "auto": by scikit-learn's type of the
            target, which takes whole numbers for classes.
        law: "conditional-bernoulli" or "plackett-luce", of the subsets (docs/exactly_k_of_n.md).
        max_iter: int >= 1, steps.
        batch_size: int >= 1, rows a step.
        learning_rate: float > 0, of the model's weights (Adam); those of the law move half as fast.
        random_state: int, RandomState or None; the same gives the same columns.
    Attributes: k_, support_ (n_features,) bool, scores_ (n_features,) log weights of the law, larger ones are chosen;
        n_features_in_, feature_names_in_, n_iter_.
    Reference: docs/sklearn.md; Ahmed et al., SIMPLE: a gradient estimator for k-subset sampling, 2023.
    """

    def __init__(
        self,
        k: int | str = "learned",
        *,
        price: float = 0.01,
        task: str = "auto",
        law: str = "conditional-bernoulli",
        max_iter: int = 500,
        batch_size: int = 128,
        learning_rate: float = 0.03,
        random_state: int | np.random.RandomState | None = None,
    ) -> None:
        self.k = k
        self.price = price
        self.task = task
        self.law = law
        self.max_iter = max_iter
        self.batch_size = batch_size
        self.learning_rate = learning_rate
        self.random_state = random_state

    def fit(self, X: ArrayLike, y: ArrayLike) -> SelectKFeatures:
        """Fit to (N, n_features) rows and (N,) classes or numbers, or (N, outputs) numbers.

        Raises ValueError for NaN, fewer than k columns or parameters out of range.
        """
        table, target = validate_data(self, X, y, dtype=np.float64, multi_output=True, ensure_min_samples=2)
        self._check_parameters()
        generator = torch.Generator().manual_seed(int(check_random_state(self.random_state).randint(2**31 - 1)))
        x, wanted = _standardised(table).float(), self._target(np.asarray(target))
        selector = self._train(x, wanted, generator)
        scores = selector.log_scores
        assert scores is not None
        self.scores_: NDArray[np.float64] = scores.detach().double().numpy()
        order = np.argsort(-self.scores_, kind="stable")
        self.k_ = int(self.k) if self.k != "learned" else self._best_size(x, wanted, order, generator)
        self.support_ = np.zeros(len(order), dtype=bool)
        self.support_[order[: self.k_]] = True
        self.n_iter_ = self.max_iter
        return self

    def _get_support_mask(self) -> NDArray[np.bool_]:
        check_is_fitted(self)
        return self.support_

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.target_tags.required = True
        return tags

    def _check_parameters(self) -> None:
        name = type(self).__name__

        def require(condition: bool, argument: str, contract: str) -> None:
            if not condition:
                raise ValueError(f"{name}: {argument} must {contract}, got {getattr(self, argument)!r}")

        def is_number(argument: str, kind: type) -> bool:
            value = getattr(self, argument)
            return isinstance(value, kind) and not isinstance(value, (bool, np.bool_))

        learned = isinstance(self.k, str) and self.k == "learned"
        require(learned or is_number("k", numbers.Integral), "k", "be an int or 'learned'")
        if not learned:
            require(int(self.k) >= 1, "k", "be >= 1")
            require(
                int(self.k) <= self.n_features_in_, "k", f"be at most the number of features, {self.n_features_in_}"
            )
        for argument in ("max_iter", "batch_size"):
            require(is_number(argument, numbers.Integral), argument, "be an int")
            require(getattr(self, argument) >= 1, argument, "be >= 1")
        for argument in ("price", "learning_rate"):
            value = getattr(self, argument)
            valid = is_number(argument, numbers.Real) and math.isfinite(value) and value > 0
            require(valid, argument, "be a positive, finite float")
        require(self.task in TASKS, "task", f"be one of {TASKS}")
        require(self.law in LAWS, "law", f"be one of {LAWS}")

    def _target(self, y: NDArray[Any]) -> _Target:
        name = type(self).__name__
        kind = type_of_target(y, input_name="y", raise_unknown=True)
        task = self.task
        if task == "auto":
            task = "classification" if kind in ("binary", "multiclass") else "regression"
        if task == "classification":
            if kind not in ("binary", "multiclass"):
                raise ValueError(f"{name}: y must hold one class for each row with task='classification', got {kind}")
            classes, labels = np.unique(y.reshape(len(y)), return_inverse=True)
            share = np.bincount(labels) / len(labels)
            return _Target(torch.from_numpy(labels), len(classes), float(-(share * np.log(share)).sum()) or 1.0)
        try:
            numbers_of_y = y.astype(np.float64).reshape(len(y), -1)
        except (TypeError, ValueError) as error:
            raise ValueError(f"{name}: y must hold numbers with task='regression', got {kind}") from error
        return _Target(_standardised(numbers_of_y).float(), numbers_of_y.shape[1], 1.0)

    def _train(self, x: Tensor, target: _Target, generator: torch.Generator) -> SubsetSelector:
        """Train the law, and the model with it."""
        count, n = x.shape
        learned = self.k == "learned"
        selector = SubsetSelector(n, None if learned else int(self.k), law=self.law)
        if selector.log_odds is not None:
            with torch.no_grad():
                selector.log_odds.fill_(2 * math.log(_DENSE / (1 - _DENSE)))
        model = nn.utils.skip_init(nn.Linear, n, target.outputs)
        for parameter in model.parameters():
            nn.init.zeros_(parameter)
        optimizer = torch.optim.Adam(
            [
                {"params": selector.parameters(), "lr": 0.5 * self.learning_rate},
                {"params": model.parameters(), "lr": self.learning_rate},
            ]
        )
        size = min(self.batch_size, count)
        masks = min(_MASKS_OF_SIZES if learned else _MASKS, size)
        for _ in range(self.max_iter):
            rows = torch.randint(count, (size,), generator=generator)
            drawn = selector(sample_shape=(masks,), generator=generator)
            mask = drawn.mask.repeat_interleave(-(-size // masks), dim=0)[:size]
            loss = _loss(model(x[rows] * mask), target.values[rows]) / target.unit
            if learned:
                loss = loss + self.price * drawn.size.mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        return selector

    def _best_size(self, x: Tensor, target: _Target, order: NDArray[np.int64], generator: torch.Generator) -> int:
        """The k >= 1 of least unexplained variance plus price, by least squares on the first columns of the order."""
        rows = torch.randperm(len(x), generator=generator)[:_SCORED_ROWS]
        values = target.values[rows]
        left = (nn.functional.one_hot(values, target.outputs) if values.dim() == 1 else values).double()
        left = left - left.mean(0)
        whole = float(left.square().sum()) or 1.0
        basis = left.new_ones(len(rows), 1) / math.sqrt(len(rows))
        best, least = 1, math.inf
        for k, column in enumerate(order.tolist(), start=1):
            if self.price * k > least or k + 1 >= len(rows):
                break
            own = x[rows, column].double()
            for _ in range(2):  # once more for what rounding left
                own = own - basis @ (basis.T @ own)
            length = own.norm()
            if length > 1e-6 * math.sqrt(len(rows)):
                own = (own / length).unsqueeze(-1)
                basis, left = torch.cat([basis, own], dim=1), left - own @ (own.T @ left)
            unexplained = float(left.square().sum()) / whole * (len(rows) - 1) / (len(rows) - k - 1)
            if unexplained + self.price * k < least:
                best, least = k, unexplained + self.price * k
        return best


def _loss(out: Tensor, target: Tensor) -> Tensor:
    if target.dim() == 1:
        return nn.functional.cross_entropy(out, target)
    return (out - target).square().mean()


def _standardised(table: NDArray[np.float64]) -> Tensor:
    """Columns of mean 0 and deviation 1; 0 where constant. Dividing by powers of two first keeps squares in range."""
    units = np.ldexp(table, -np.frexp(np.abs(table).max(0))[1])
    offset, scale = units.mean(0), units.std(0)
    return torch.from_numpy((units - offset) / np.where(scale > 1e-12, scale, 1.0))
