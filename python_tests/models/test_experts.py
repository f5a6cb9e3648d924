"""Pooled posteriors: the corollaries of Def. 3.2.1, densities against quadrature, what is missing, gradients."""

import itertools
import math

import pytest
import torch
from torch.distributions import Normal

from drpm.models.experts import (
    INSIDE,
    SUBSETS,
    GaussianMixture,
    Pooling,
    drawn_component,
    gaussian_kl,
    gaussian_log_density,
    subset_members,
    subset_shares,
)
from drpm.models.view_aggregation import aggregate

B, M, D = 5, 3, 4
POWERSET = [s for size in (1, 2, 3) for s in itertools.combinations(range(M), size)]
FAMILIES = {"product": [(0, 1, 2)], "mixture": [(0,), (1,), (2,)], "mixture of products": POWERSET}
GRID = torch.linspace(-12, 12, 4801, dtype=torch.float64)
WEIGHTS = (0.2, 0.5, 0.9)


def experts(rows=B, modalities=M, dim=D, seed=0):
    generator = torch.Generator().manual_seed(seed)
    shape = (rows, modalities, dim)
    means, log_variances = (torch.randn(shape, generator=generator, dtype=torch.float64) for _ in range(2))
    return means, 0.7 * log_variances


def plain_product(means, log_variances, subset):
    """Eq. 3.5-3.6 by loops."""
    precision = sum(1 / log_variances[:, m].exp() for m in subset)
    mean = sum(means[:, m] / log_variances[:, m].exp() for m in subset) / precision
    return Normal(mean, precision.rsqrt())


@pytest.mark.parametrize("name", SUBSETS)
def test_named_families_are_the_corollaries(name):
    means, log_variances = experts()
    z = experts(seed=1)[0][:, 0]
    parts = [plain_product(means, log_variances, subset).log_prob(z).sum(-1) for subset in FAMILIES[name]]
    wanted = torch.stack(parts).logsumexp(0) - math.log(len(parts))
    for subsets in (name, FAMILIES[name], FAMILIES[name][::-1]):
        found = Pooling(subsets)(means, log_variances).log_density(z)
        torch.testing.assert_close(found, wanted, rtol=0, atol=1e-12)


def densities(inside, subset, means, log_variances, prior_weight):
    """q_A on the grid, normalised by quadrature; (B, points)."""
    log_q = Normal(means, (0.5 * log_variances).exp()).log_prob(GRID)  # (B, M, points); d = 1
    log_q = torch.cat([log_q, Normal(0.0, 1.0).log_prob(GRID).expand(len(means), 1, -1)], 1)
    part = [*subset, M] if prior_weight else [*subset]
    weights = torch.tensor([*((1.0,) * M if inside == "product" else WEIGHTS), prior_weight], dtype=torch.float64)
    weights, log_q = weights[part].view(-1, 1), log_q[:, part]
    if inside == "power mean":
        unnormalised = (weights * (0.5 * log_q).exp()).sum(1).square()
    else:
        share = weights if inside == "product" else weights / weights.sum()
        unnormalised = (share * log_q).sum(1).exp()
    return unnormalised / torch.trapezoid(unnormalised, GRID, dim=-1).unsqueeze(-1)


@pytest.mark.parametrize("prior_weight", [0.0, 0.7])
@pytest.mark.parametrize("inside", INSIDE)
@pytest.mark.parametrize("name", SUBSETS)
def test_densities_and_divergences_are_those_of_quadrature(name, inside, prior_weight):
    means, log_variances = experts(dim=1)
    weights = None if inside == "product" else WEIGHTS
    mixture = Pooling(name, inside, weights, prior_weight)(means, log_variances)
    parts = [densities(inside, subset, means, log_variances, prior_weight) for subset in FAMILIES[name]]
    wanted = torch.stack(parts).mean(0)
    found = mixture.log_density(GRID.view(-1, 1, 1).expand(-1, B, 1)).exp().T
    torch.testing.assert_close(found, wanted, rtol=1e-9, atol=1e-12)
    log_prior = Normal(0.0, 1.0).log_prob(GRID)
    exact = torch.trapezoid(torch.xlogy(wanted, wanted) - wanted * log_prior, GRID, dim=-1)
    assert (mixture.kl("bound") >= exact - 1e-9).all()
    if name == "product" and inside != "power mean":
        torch.testing.assert_close(mixture.kl("closed"), exact, rtol=1e-9, atol=1e-9)
    z = mixture.sample(20_000, torch.Generator().manual_seed(0))
    estimates = mixture.log_density(z) - gaussian_log_density(z, 0.0, 0.0).sum(-1)
    torch.testing.assert_close(mixture.kl("monte carlo", z), estimates.mean(0))
    assert ((estimates.mean(0) - exact).abs() < 5 * estimates.std(0) / math.sqrt(len(z))).all()
    mean = torch.trapezoid(wanted * GRID, GRID, dim=-1)
    assert ((z.mean(0).squeeze(-1) - mean).abs() < 5 * z.std(0).squeeze(-1) / math.sqrt(len(z))).all()


def test_power_mean_of_two_in_many_dimensions_is_exact():
    means, log_variances = experts(modalities=2)
    mixture = Pooling("product", "power mean", (0.3, 0.8))(means, log_variances)
    z = torch.randn(6, B, D, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    log_q = [gaussian_log_density(z, means[:, m], log_variances[:, m]).sum(-1) for m in range(2)]
    unnormalised = 2 * (0.3 * (0.5 * log_q[0]).exp() + 0.8 * (0.5 * log_q[1]).exp()).log()
    gap = unnormalised - mixture.log_density(z)
    torch.testing.assert_close(gap, gap[:1].expand_as(gap))  # the normaliser alone
    torch.testing.assert_close(mixture.log_weights.logsumexp(-1), torch.zeros(B, dtype=torch.float64))


@pytest.mark.parametrize("inside", INSIDE)
@pytest.mark.parametrize("subsets", [*SUBSETS, [(0, 1), (0,), (1, 2)]])
def test_missing_is_left_out_and_never_read(inside, subsets):
    means, log_variances = experts()
    observed = torch.tensor([[1, 1, 1], [1, 1, 0], [0, 1, 1], [1, 0, 1], [0, 1, 0]]).bool()
    z = experts(seed=1)[0][:, 0]
    pooling = Pooling(subsets, inside)
    broken = [torch.where(observed.unsqueeze(-1), x, math.nan).requires_grad_() for x in (means, log_variances)]
    found = pooling(*broken, observed)
    density, bound = found.log_density(z), found.kl()
    (density.sum() + bound.sum()).backward()
    for row, seen in enumerate(observed):
        kept = seen.nonzero().flatten().tolist()
        left = subsets
        if not isinstance(subsets, str):
            left = sorted({tuple(kept.index(m) for m in subset if m in kept) for subset in subsets} - {()})
        alone = Pooling(left, inside)(means[row : row + 1, seen], log_variances[row : row + 1, seen])
        torch.testing.assert_close(density[row : row + 1], alone.log_density(z[row : row + 1]), rtol=0, atol=1e-12)
        torch.testing.assert_close(bound[row : row + 1], alone.kl(), rtol=0, atol=1e-12)
    for x in broken:
        assert x.grad.isfinite().all() and (x.grad[~observed] == 0).all() and (x.grad[observed] != 0).all()


@pytest.mark.parametrize("inside", INSIDE)
def test_the_order_of_modalities_does_not_matter(inside):
    means, log_variances = experts()
    observed = torch.tensor([[1, 1, 1], [1, 1, 0], [0, 1, 1], [1, 0, 1], [0, 1, 0]]).bool()
    order, z = [2, 0, 1], experts(seed=1)[0][:, 0]
    weights = None if inside == "product" else WEIGHTS
    moved = None if weights is None else tuple(weights[m] for m in order)
    for subsets in ("mixture of products", [(0, 1), (2,)]):
        other = subsets if isinstance(subsets, str) else [[order.index(m) for m in subset] for subset in subsets]
        one = Pooling(subsets, inside, weights)(means, log_variances, observed)
        two = Pooling(other, inside, moved)(means[:, order], log_variances[:, order], observed[:, order])
        torch.testing.assert_close(one.log_density(z), two.log_density(z))
        torch.testing.assert_close(one.kl(), two.kl())


@pytest.mark.parametrize("inside", INSIDE)
def test_gradients(inside):
    means, log_variances = experts(rows=2, dim=2)
    observed = torch.tensor([[True, True, True], [True, False, True]])
    z = torch.randn(2, 2, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)

    def scores(means, log_variances):
        mixture = Pooling("mixture of products", inside, prior_weight=0.5)(means, log_variances, observed)
        index = torch.tensor([[0, 2], [1, 0]])
        return mixture.log_density(z), mixture.kl(), *mixture.component(index)

    assert torch.autograd.gradcheck(scores, [x.requires_grad_() for x in (means, log_variances)])


def test_rows_and_samples_draw_components_independently():
    shares = torch.tensor([[0.5, 0.2, 0.3], [0.0, 1.0, 0.0], [0.25, 0.75, 0.0]])
    zeros = torch.zeros(3, 3, 1)
    mixture = GaussianMixture(zeros, zeros, shares.log())
    drawn = mixture.draw(20_000, torch.Generator().manual_seed(0))
    for row, component in itertools.product(range(3), range(3)):
        share = float(shares[row, component])
        hits = (drawn[:, row] == component).double().mean()
        assert abs(hits - share) <= 5 * math.sqrt(share * (1 - share) / len(drawn))
    both = ((drawn[:, 0] == 0) & (drawn[:, 2] == 0)).double().mean()
    assert abs(both - 0.125) < 5 * math.sqrt(0.125 * 0.875 / len(drawn))
    changes = (drawn[1:, 0] == drawn[:-1, 0]).double().mean()  # no blocks
    assert abs(changes - 0.38) < 5 * math.sqrt(0.38 * 0.62 / len(drawn))


def test_shares_of_subsets_that_coincide_count_once():
    members = subset_members([(0, 1), (0,), (1, 2), (2,)], 3)
    observed = torch.tensor([[1, 1, 1], [1, 0, 1], [1, 0, 0], [0, 1, 0]]).bool()
    found = subset_shares(members, observed)
    assert found.tolist() == [[0.25] * 4, [0.5, 0, 0.5, 0], [1, 0, 0, 0], [1, 0, 0, 0]]


def test_multiview_aggregation_is_bit_for_bit_what_it_was():
    generator = torch.Generator().manual_seed(0)
    means, log_variances = (torch.randn(40, M, D, generator=generator) for _ in range(2))

    def product(weights):
        precision = weights * (-log_variances).exp()
        total = precision.sum(1)
        return (precision * means).sum(1) / total, -total.log()

    draws = torch.Generator().manual_seed(7)
    chosen = torch.randint(M, (40,), generator=draws)
    subsets = torch.randint(1, 2**M, (40,), generator=draws)
    member = (subsets.unsqueeze(-1) >> torch.arange(M)) & 1
    rows = torch.arange(40)
    wanted = {
        "mean": (means.mean(1), log_variances.exp().mean(1).log()),
        "product": product(torch.ones_like(means[..., :1])),
        "mixture": (means[rows, chosen], log_variances[rows, chosen]),
        "mixture of products": product(member.unsqueeze(-1).to(means)),
    }
    draws = torch.Generator().manual_seed(7)
    for how, both in wanted.items():
        for found, value in zip(aggregate(means, log_variances, how, draws), both, strict=True):
            assert torch.equal(found, value), how
    mean, _ = drawn_component(means, log_variances, [(0, 2), (1,)], generator)
    options = torch.stack([product(torch.tensor([1.0, 0, 1]).view(1, 3, 1))[0], means[:, 1]])
    assert ((mean - options).abs().amax(-1).amin(0) < 1e-6).all()


def test_gaussian_helpers_are_those_of_torch():
    (m, v), (n, w) = experts(), experts(seed=1)
    q, p = Normal(m, (v / 2).exp()), Normal(n, (w / 2).exp())
    torch.testing.assert_close(gaussian_kl(m, v, n, w), torch.distributions.kl_divergence(q, p))
    torch.testing.assert_close(gaussian_log_density(n, m, v), q.log_prob(n))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"subsets": "sum"}, "subsets must be a list or one of product, mixture, mixture of products, got sum"),
        ({"inside": "median"}, "inside must be one of product, geometric mean, power mean, got median"),
        ({"inside": "power mean", "weights": (1.0, 0.0, 1.0)}, r"weights must be > 0, got \(1.0, 0.0, 1.0\)"),
        ({"weights": (1.0, 1.0, 1.0)}, "weights must be None for a product"),
        ({"prior_weight": -1.0}, "prior_weight must be >= 0, got -1.0"),
        ({"prior_weight": math.nan}, "prior_weight must be >= 0, got nan"),
        ({"subsets": [(0,), ()]}, "subsets must be non-empty sets of 0 to 2"),
        ({"subsets": []}, "subsets must be non-empty sets of 0 to 2"),
        ({"subsets": [(0, 3)]}, "subsets must be non-empty sets of 0 to 2"),
        ({"subsets": [(0, 1), (1, 0)]}, "subsets must not repeat a subset or a member"),
        ({"subsets": [(1, 1)]}, "subsets must not repeat a subset or a member"),
        ({"inside": "geometric mean", "weights": (1.0, 1.0)}, "weights must be 3 numbers"),
    ],
)
def test_bad_options_are_refused(options, message):
    with pytest.raises(ValueError, match=f"Pooling: {message}"):
        Pooling(**options)(*experts())


def test_bad_experts_are_refused():
    means, log_variances = experts()
    everything = torch.ones(B, M, dtype=torch.bool)
    nothing, broken = everything.clone(), means.clone()
    nothing[2], broken[1, 0, 0] = False, math.nan
    cases = [
        ((means[0], log_variances[0]), r"means must have shape \(B, M, d\), M >= 1, got \(3, 4\)"),
        ((means, log_variances[:, :2]), r"log_variances must have the shape \(5, 3, 4\) of means, got \(5, 2, 4\)"),
        ((means, log_variances, everything[:, :2]), r"observed must be a bool tensor of shape \(5, 3\)"),
        ((means, log_variances, everything.int()), "observed must be a bool tensor"),
        ((means, log_variances, nothing), "observed must have something observed in every row"),
        ((broken, log_variances), "means must be finite where observed, got nan"),
        ((means, broken, everything), "log_variances must be finite where observed, got nan"),
    ]
    for arguments, message in cases:
        with pytest.raises(ValueError, match=f"Pooling: {message}"):
            Pooling()(*arguments)
    with pytest.raises(ValueError, match="Pooling: observed must meet a subset in every row"):
        Pooling([(0,)])(means, log_variances, torch.tensor([[False, True, True]] * B))
    mixture = Pooling()(means, log_variances)
    for how, message in (("exact", "how must be one of closed"), ("closed", "how must be bound or monte carlo")):
        with pytest.raises(ValueError, match=f"GaussianMixture.kl: {message}"):
            mixture.kl(how)
    with pytest.raises(ValueError, match=r"GaussianMixture.kl: z must be draws"):
        mixture.kl("monte carlo")
