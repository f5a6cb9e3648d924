"""Selectors that are trained with a predictor: what lets features through while training, and what is chosen then."""

import abc

import torch
from torch import Tensor, nn

from drpm.nn import Exponential, SubsetSelector

GATES = ("conditional-bernoulli", "plackett-luce", "learned-k", "concrete", "stochastic-gates")
_SPREAD = 0.5  # standard deviation of the noise of stochastic gates


class Gate(nn.Module, abc.ABC):
    """Lets features of a batch through. `width` is what the predictor gets."""

    width: int

    @abc.abstractmethod
    def forward(self, x: Tensor) -> Tensor:  # (B, n) -> (B, width)
        """Let a part of the features through, at random."""

    def penalty(self) -> Tensor:
        """What is added to the loss of the last forward."""
        return torch.zeros(())

    @abc.abstractmethod
    def chosen(self) -> Tensor:
        """Give the features that it settles on, (k,) int64; of a concrete selector with repetitions."""

    def advance(self) -> None:
        """Count a step of the schedules."""


class LawGate(Gate):
    """`SubsetSelector`: a mask for every example, or for every group of examples of a batch.

    Args:
        k: number to choose; None: learned, at a price per feature.
        masks: masks a batch, at most one for each example.
        wide: of a given k: so many features are let through at the start; their number falls to k geometrically in the
            first half of the steps.
    """

    def __init__(
        self, n: int, k: int | None, law: str, steps: int, *, masks: int, price: float = 0.0, wide: int | None = None
    ) -> None:
        super().__init__()
        self.width, self.masks, self.price, self.law = n, masks, price, law
        self.selector = SubsetSelector(
            n,
            k,
            law=law,
            tau=Exponential(1.0, 0.3, steps) if law == "plackett-luce" else None,
            hard=law == "conditional-bernoulli",
        )
        if k is None:
            assert self.selector.log_odds is not None
            with torch.no_grad():  # a tenth of the features
                self.selector.log_odds.fill_(2 * torch.tensor(0.1).logit().item())
        self.k = k
        self.widths = None if k is None or wide is None else Exponential(float(max(wide, k)), float(k), steps // 2)
        self.step, self._size = 0, torch.zeros(())
        self._widen()

    def _widen(self) -> None:
        if self.widths is not None and self.selector.k is not None:
            self.selector.k.fill_(round(self.widths(self.step)))

    def forward(self, x: Tensor) -> Tensor:
        masks = min(self.masks, len(x))
        drawn = self.selector(sample_shape=(masks,))
        self._size = drawn.size.mean()
        each = -(-len(x) // masks)
        return x * drawn.mask.repeat_interleave(each, dim=0)[: len(x)]

    def penalty(self) -> Tensor:
        return self.price * self._size

    @torch.no_grad()
    def chosen(self) -> Tensor:
        scores = self.selector.log_scores
        assert scores is not None
        k = self.k
        if k is None:
            k = max(1, int(self.selector.eval()().size))
            self.selector.train()
        return scores.argsort(descending=True, stable=True)[:k]

    def advance(self) -> None:
        self.step += 1
        self.selector.advance()
        self._widen()


class ConcreteGate(Gate):
    """k Gumbel-softmax mixtures of the features, which may settle on the same one (Abid, Balin and Zou, 2019)."""

    def __init__(self, n: int, k: int, steps: int) -> None:
        super().__init__()
        self.width = k
        self.logits = nn.Parameter(nn.init.xavier_normal_(torch.empty(k, n)))
        self.temperature, self.step = Exponential(10.0, 0.1, steps), 0

    def forward(self, x: Tensor) -> Tensor:
        noise = -torch.empty_like(self.logits).exponential_().log()
        mixture = ((self.logits + noise) / self.temperature(self.step)).softmax(-1)
        return x @ mixture.T

    def chosen(self) -> Tensor:
        return self.logits.detach().argmax(-1)

    def advance(self) -> None:
        self.step += 1


class StochasticGates(Gate):
    """Clipped Gaussian gates with a price on open ones (Yamada et al., 2020); the k largest are chosen.

    The published price is a parameter to search; here it is the multiplier of "k gates are open", raised while there
    are more and lowered while there are fewer.
    """

    price: Tensor

    def __init__(self, n: int, k: int, steps: int) -> None:
        super().__init__()
        self.width, self.k, self.rise = n, k, 0.2 / steps
        self.mean = nn.Parameter(torch.full((n,), 0.5))
        self.register_buffer("price", torch.zeros(()))

    def forward(self, x: Tensor) -> Tensor:
        noise = _SPREAD * torch.randn(len(x), self.width)
        return x * (self.mean + noise).clamp(0.0, 1.0)

    def _open(self) -> Tensor:
        return torch.special.ndtr(self.mean / _SPREAD).sum()

    def penalty(self) -> Tensor:
        return self.price * self._open()

    def chosen(self) -> Tensor:
        return self.mean.detach().argsort(descending=True, stable=True)[: self.k]

    @torch.no_grad()
    def advance(self) -> None:
        self.price.add_(self.rise * (self._open() / self.k).log()).clamp_(min=0.0)


def make_gate(method: str, n: int, k: int, steps: int, *, masks: int, price: float, wide: int | None) -> Gate:
    """Give the untrained selector of a method; all but "learned-k" choose k."""
    if method == "concrete":
        return ConcreteGate(n, k, steps)
    if method == "stochastic-gates":
        return StochasticGates(n, k, steps)
    if method == "learned-k":
        return LawGate(n, None, "conditional-bernoulli", steps, masks=masks, price=price)
    return LawGate(n, k, method, steps, masks=masks, wide=wide)
