"""Views that share some of their generative factors (thesis 5.3.3): which factors, and with what values."""

import math
from collections.abc import Sequence
from typing import NamedTuple, Protocol

import torch
from torch import Tensor


class FactorImages(Protocol):
    """Images that are a function of F discrete factors with known values."""

    names: tuple[str, ...]
    sizes: tuple[int, ...]  # number of values of each factor

    def images(self, factors: Tensor) -> Tensor:
        """(..., F) int64 -> (..., 3, side, side) float32 in [0, 1]."""
        ...


class Views(NamedTuple):
    """`factors` (N, V, F) int64: the factor values of each of V views. `group` (N, F) int64: which group of views
    shares the factor, an index into the groups that were asked for; their number where it is private."""

    factors: Tensor
    group: Tensor


def sample_views(
    sizes: Sequence[int],
    count: int,
    shared: int | Sequence[tuple[Sequence[int], int]],
    views: int = 2,
    seed: int = 0,
) -> Views:
    """Draw factor values of tuples of views, of which chosen numbers of factors are shared.

    Values are uniform and independent. Which factors are shared is drawn anew for every tuple (uniformly). A factor
    that is not shared may still agree by chance, as in Locatello et al. (2020).

    Args:
        sizes: F ints >= 1, number of values of each factor.
        count: int, N.
        shared: int, the number of factors that all views share; or pairs (views of a group, number of factors that
            this group shares), such as [((0, 1, 2), 2), ((0, 1), 3)].
        views: int >= 1, V.
        seed: int, decides everything.
    Returns: Views.
    Raises: ValueError when more factors are shared than there are, or a group names a view that does not exist.
    """
    total = len(sizes)
    groups = [(tuple(range(views)), shared)] if isinstance(shared, int) else [(tuple(g), k) for g, k in shared]
    for members, number in groups:
        if number < 0 or not all(0 <= view < views for view in members) or len(set(members)) != len(members):
            raise ValueError(
                f"sample_views: shared must hold groups of distinct views in [0, {views - 1}] with numbers of factors "
                f">= 0, got {(members, number)}"
            )
    if sum(number for _, number in groups) > total:
        raise ValueError(f"sample_views: shared must name at most {total} factors, got {groups}")
    generator = torch.Generator().manual_seed(seed)
    columns = [torch.randint(size, (count, views), generator=generator) for size in sizes]
    factors = torch.stack(columns, dim=-1) if columns else torch.zeros(count, views, 0, dtype=torch.int64)
    # a random order of the factors for every tuple; the first go to the first group, and so on
    order = torch.rand(count, total, generator=generator).argsort(dim=-1)
    bounds = torch.tensor([number for _, number in groups], dtype=torch.int64).cumsum(0)
    rank = order.argsort(dim=-1)
    group = torch.searchsorted(bounds, rank, right=True)
    for index, (members, _) in enumerate(groups):
        if members:
            first = factors[:, members[0]]
            for view in members[1:]:
                factors[:, view] = torch.where(group == index, first, factors[:, view])
    return Views(factors, group)


def held_out_images(sizes: Sequence[int], share: float = 0.2, seed: int = 0) -> Tensor:
    """Which combinations of factor values are kept for testing: (Π sizes) bool, the last factor running fastest."""
    count = math.prod(sizes)
    held_out = torch.zeros(count, dtype=torch.bool)
    held_out[torch.randperm(count, generator=torch.Generator().manual_seed(seed))[: round(share * count)]] = True
    return held_out


def sample_split_views(
    sizes: Sequence[int],
    count: int,
    shared: int | Sequence[tuple[Sequence[int], int]],
    held_out: Tensor,
    test: bool,
    views: int = 2,
    seed: int = 0,
) -> Views:
    """`sample_views`, keeping the tuples whose every image is held out (`test`), or none.

    Args:
        held_out: (Π sizes) bool, from `held_out_images`.
    Raises: ValueError as `sample_views`; when hardly any tuple is kept.
    """
    strides = torch.tensor([math.prod(sizes[k + 1 :]) for k in range(len(sizes))])
    kept: list[Views] = []
    found = tries = 0
    while found < count:
        drawn = sample_views(sizes, 2**17, shared, views, seed=1_000_003 * seed + tries)
        fits = (held_out[(drawn.factors * strides).sum(-1)] == test).all(dim=1)
        kept.append(Views(drawn.factors[fits], drawn.group[fits]))
        found, tries = found + int(fits.sum()), tries + 1
        if tries == 100 and found < 100:
            raise ValueError(f"sample_split_views: held_out must leave tuples of {views} views, got only {found}")
    return Views(torch.cat([some.factors for some in kept])[:count], torch.cat([some.group for some in kept])[:count])
