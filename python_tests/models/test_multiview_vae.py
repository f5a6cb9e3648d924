"""Views that share latent dimensions: aggregation by hand, what each selection shares, what counts once, gradients."""

import itertools
import math

import pytest
import torch
from torch.distributions import Normal, kl_divergence

from drpm import ops
from drpm.models.experts import gaussian_kl
from drpm.models.multiview_vae import ConvDecoder, ConvEncoder, DenseDecoder, DenseEncoder, MultiviewVAE
from drpm.models.view_aggregation import (
    AGGREGATIONS,
    PARTITION_KLS,
    AdaptiveSelection,
    HypergeometricSelection,
    LabelSelection,
    PartitionSelection,
    aggregate,
    assign,
    view_divergence,
)

ROWS, DIM = 7, 10


def posteriors(views=2, rows=ROWS, dim=DIM, seed=0):
    generator = torch.Generator().manual_seed(seed)
    shape = (rows, views, dim)
    return torch.randn(shape, generator=generator), 0.5 * torch.randn(shape, generator=generator)


def normal(mean, log_variance):
    return Normal(mean, (0.5 * log_variance).exp())


def test_gaussian_kl_is_that_of_torch():
    (m, v), (n, w) = posteriors(), posteriors(seed=1)
    torch.testing.assert_close(gaussian_kl(m, v, n, w), kl_divergence(normal(m, v), normal(n, w)))


def test_product_is_the_normalised_product_of_densities():
    means, log_variances = posteriors(views=3)
    joint = normal(*aggregate(means, log_variances, "product"))
    x = torch.linspace(-3, 3, 9)
    points = x[:, None, None].expand(9, ROWS, DIM)
    log_product = sum(normal(means[:, v], log_variances[:, v]).log_prob(points) for v in range(3))
    gap = log_product - joint.log_prob(points)
    torch.testing.assert_close(gap, gap[:1].expand_as(gap), rtol=1e-4, atol=1e-4)  # constant in x


def test_mean_is_group_vae():
    means, log_variances = posteriors()
    mean, log_variance = aggregate(means, log_variances, "mean")
    torch.testing.assert_close(mean, (means[:, 0] + means[:, 1]) / 2)
    torch.testing.assert_close(log_variance.exp(), (log_variances[:, 0].exp() + log_variances[:, 1].exp()) / 2)


def test_mixtures_draw_views_and_subsets_uniformly():
    means = torch.tensor([[[0.0], [1.0], [10.0]]]).expand(6000, 3, 1)
    zeros = torch.zeros_like(means)
    generator = torch.Generator().manual_seed(0)
    drawn, _ = aggregate(means, zeros, "mixture", generator)
    for value in (0.0, 1.0, 10.0):
        assert abs((drawn == value).float().mean() - 1 / 3) < 5 * math.sqrt(2 / 9 / 6000)
    drawn, log_variance = aggregate(means, zeros, "mixture of products", generator)
    subsets = [s for size in (1, 2, 3) for s in itertools.combinations((0.0, 1.0, 10.0), size)]
    for subset in subsets:
        hits = (drawn - sum(subset) / len(subset)).abs() < 1e-5
        assert abs(hits.float().mean() - 1 / 7) < 5 * math.sqrt(6 / 49 / 6000)
        torch.testing.assert_close(log_variance[hits], torch.full_like(log_variance[hits], -math.log(len(subset))))


def test_unknown_aggregation_is_named():
    with pytest.raises(ValueError, match="how must be one of mean, product, mixture, mixture of products, got sum"):
        aggregate(*posteriors(), "sum")


def test_shared_dimensions_count_once_and_private_ones_per_view():
    means, log_variances = posteriors(views=3)
    group_of = torch.tensor([0, 0, 1, 1, 1, 2, 2, 2, 2, 2])  # dimension -> (all three views), (views 0 and 2), private
    masks = torch.nn.functional.one_hot(group_of, 3).T.expand(ROWS, 3, DIM).float()
    found = assign(means, log_variances, masks, [(0, 1, 2), (0, 2)])
    everyone, pair = aggregate(means, log_variances), aggregate(means[:, [0, 2]], log_variances[:, [0, 2]])
    kl = torch.zeros(ROWS)
    for i, group in enumerate(group_of.tolist()):
        for view in range(3):
            joint = everyone if group == 0 else pair if group == 1 and view != 1 else None
            mean = means[:, view, i] if joint is None else joint[0][:, i]
            log_variance = log_variances[:, view, i] if joint is None else joint[1][:, i]
            torch.testing.assert_close(found.means[:, view, i], mean)
            torch.testing.assert_close(found.log_variances[:, view, i], log_variance)
            first_of_group = joint is None or view == 0
            if first_of_group:
                kl += kl_divergence(normal(mean, log_variance), Normal(0.0, 1.0))
    torch.testing.assert_close(found.kl, kl)


def test_label_selection_keeps_the_most_different_dimensions_private():
    means, log_variances = posteriors()
    for number in (0, 1, 3, DIM):
        found = LabelSelection(number)(means, log_variances)
        assert torch.equal(found.sizes, torch.tensor([DIM - number, number]).expand(ROWS, 2).float())
        divergence = view_divergence(means, log_variances)
        private, shared = found.masks[:, 1].bool(), found.masks[:, 0].bool()
        for row in range(ROWS):
            if 0 < number < DIM:
                assert divergence[row][private[row]].min() > divergence[row][shared[row]].max()


def test_adaptive_selection_cuts_in_the_middle_of_the_range():
    means, log_variances = posteriors()
    divergence = view_divergence(means, log_variances)
    middle = (divergence.amin(1) + divergence.amax(1)) / 2
    found = AdaptiveSelection()(means, log_variances)
    assert torch.equal(found.masks[:, 0].bool(), divergence < middle[:, None])
    assert torch.equal(found.masks.sum(1), torch.ones(ROWS, DIM))


def test_hypergeometric_selection_shares_where_views_agree_most():
    torch.manual_seed(0)
    means, log_variances = posteriors()
    selection = HypergeometricSelection(DIM)
    found = selection(means, log_variances)
    divergence = view_divergence(means, log_variances)
    for row in range(ROWS):
        size = int(found.sizes[row, 0])
        agree_most = divergence[row].argsort()[:size]
        assert found.masks[row, 0].nonzero().flatten().tolist() == sorted(agree_most.tolist())
    assert (found.regulariser >= 0).all()  # an exact KL
    found.masks[:, 0].mul(torch.arange(DIM)).sum().backward()
    assert selection.size_head.weight.grad.abs().max() > 0
    with pytest.raises(ValueError, match="subsets must be 2"):
        HypergeometricSelection(DIM, 3)


@pytest.mark.parametrize("hard", [True, False])
@pytest.mark.parametrize("subsets", [2, 4])
def test_partition_selection_puts_every_dimension_into_one_subset(hard, subsets):
    torch.manual_seed(0)
    selection = PartitionSelection(DIM, subsets, hard=hard)
    found = selection(*posteriors())
    assert found.masks.shape == (ROWS, subsets, DIM)
    torch.testing.assert_close(found.masks.sum(1), torch.ones(ROWS, DIM))
    if hard:
        assert torch.equal(found.masks.sum(-1), found.sizes)
    loss = found.masks.mul(torch.arange(DIM)).square().sum() + found.regulariser.sum()
    loss.backward()
    for head in (selection.size_head, selection.score_head):
        assert head.weight.grad.isfinite().all() and head.weight.grad.abs().max() > 0


@pytest.mark.parametrize("make", [HypergeometricSelection, PartitionSelection])
def test_the_order_of_the_views_does_not_matter(make):
    torch.manual_seed(0)
    selection = make(DIM).eval()  # no noise
    means, log_variances = posteriors()
    one, two = selection(means, log_variances), selection(means.flip(1), log_variances.flip(1))
    assert torch.equal(one.masks, two.masks)
    torch.testing.assert_close(one.regulariser, two.regulariser)


@pytest.mark.parametrize("how", AGGREGATIONS)
def test_bound_trains_every_part(how):
    torch.manual_seed(0)
    model = MultiviewVAE(ConvEncoder(4), ConvDecoder(4), PartitionSelection(4), aggregation=how)
    views = [torch.rand(3, 3, 64, 64) for _ in range(2)]
    found = model.bound(views, gamma=0.25, beta=2.0)
    torch.testing.assert_close(found.elbo, found.reconstruction - 2.0 * found.kl - 0.25 * found.regulariser)
    (-found.elbo).backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None and parameter.grad.isfinite().all(), name
        assert parameter.grad.abs().max() > 0, name


def test_two_subsets_of_sharing_and_views_of_different_kinds():
    torch.manual_seed(0)
    widths = (20, 30, 5)
    model = MultiviewVAE(
        [DenseEncoder(width) for width in widths],
        [DenseDecoder(width) for width in widths],
        PartitionSelection(DIM, 3),
        num_views=3,
        groups=[(0, 1, 2), (0, 2)],
        likelihood="gaussian",
    )
    views = [torch.randn(ROWS, width) for width in widths]
    selection, posterior = model.infer(views)
    shared_by_all, shared_by_pair = selection.masks[:, 0].bool(), selection.masks[:, 1].bool()
    mean = posterior.means.detach()
    assert torch.equal(mean[:, 0][shared_by_all], mean[:, 1][shared_by_all])
    assert torch.equal(mean[:, 0][shared_by_pair], mean[:, 2][shared_by_pair])
    assert not torch.isclose(mean[:, 0][shared_by_pair], mean[:, 1][shared_by_pair]).any()
    (-model.bound(views).elbo).backward()
    with pytest.raises(ValueError, match="views must be 3 tensors, got 2"):
        model.infer(views[:2])
    with pytest.raises(ValueError, match="encoders must be 1 or 3 modules, got 2"):
        MultiviewVAE([DenseEncoder(4), DenseEncoder(4)], DenseDecoder(4), AdaptiveSelection(), num_views=3)
    wrong = MultiviewVAE(DenseEncoder(4), DenseDecoder(4), AdaptiveSelection(), num_views=2, groups=[(0, 1), (0,)])
    with pytest.raises(ValueError, match=r"selection must give 3 subsets .* got 2"):
        wrong.infer([torch.rand(2, 4)] * 2)


@pytest.mark.parametrize("subsets", [2, 3])
def test_partition_divergences_are_what_they_say(subsets):
    dim = 4
    torch.manual_seed(0)
    selections = {kl: PartitionSelection(dim, subsets, kl=kl).eval() for kl in PARTITION_KLS}
    for selection in selections.values():
        selection.load_state_dict(selections["bound"].state_dict())
    found = {kl: selection(*posteriors(dim=dim)) for kl, selection in selections.items()}
    selection = selections["bound"]
    features = selection.features(*posteriors(dim=dim))
    log_omega, log_scores = selection.size_head(features), selection.score_head(features)
    labels = found["bound"].masks.argmax(1)
    sizes = found["bound"].sizes
    zeros = torch.zeros_like(log_omega)
    for row in range(ROWS):
        orders = torch.tensor(list(itertools.permutations(range(dim))))
        fills = labels[row][orders]
        within = orders[(fills == fills.sort(dim=-1).values).all(-1)]  # Π_Y
        log_orders = ops.plackett_luce_log_prob(within, log_scores[row])
        every = ops.plackett_luce_log_prob(orders, log_scores[row])
        ratio = ops.mvhg_log_prob(sizes[row], log_omega[row], dim, dim) - ops.mvhg_log_prob(
            sizes[row], zeros[row], dim, dim
        )
        constant = math.log(len(within)) + ratio + math.log(math.factorial(dim))
        torch.testing.assert_close(found["bound"].regulariser[row], constant + log_orders.max())
        torch.testing.assert_close(found["loose bound"].regulariser[row], constant + every.max())
    draws = ops.random_partition(log_omega, log_scores, sample_shape=(4000,)).labels
    prior = ops.random_partition_log_prob(draws, zeros, torch.zeros_like(log_scores))
    values = ops.random_partition_log_prob(draws, log_omega, log_scores) - prior
    estimates = torch.stack([selections["exact"](*posteriors(dim=dim)).regulariser for _ in range(300)])
    error = (values.var(0) / len(values) + estimates.var(0) / len(estimates)).sqrt()
    assert ((estimates.mean(0) - values.mean(0)).abs() < 5 * error + 1e-4).all()


def test_unknown_divergence_is_named():
    with pytest.raises(ValueError, match="kl must be one of bound, loose bound, exact, got none"):
        PartitionSelection(DIM, kl="none")


def test_leave_one_out_has_the_gradient_of_the_enumerated_bound():
    torch.manual_seed(0)
    dim, rows = 3, 6000
    selection = PartitionSelection(dim, kl="exact", estimator="leave-one-out", samples=3)
    model = MultiviewVAE(DenseEncoder(4, dim, 8), DenseDecoder(4, dim, 8), selection, likelihood="gaussian")
    with torch.no_grad():
        model.encoders[0].layers[-1].bias[dim:] = -30.0  # z is its mean
        selection.score_head.weight.mul_(3.0)
        model.decoders[0][-1].weight.mul_(8.0)
    pair = [torch.randn(1, 4), torch.randn(1, 4)]
    heads = [*selection.size_head.parameters(), *selection.score_head.parameters()]

    means, log_variances = model.encode(pair)
    features = selection.features(means, log_variances)
    labels = torch.tensor(list(itertools.product(range(2), repeat=dim)))
    masks = torch.nn.functional.one_hot(labels, 2).transpose(1, 2).float()
    repeated = (x.expand(len(labels), -1, -1) for x in (means, log_variances))
    posterior = assign(*repeated, masks, model.groups)
    expected = -posterior.kl
    for view, decoded in zip(pair, model.decode(posterior.means), strict=True):
        expected = expected - 0.5 * (decoded - view).square().sum(-1)
    q = ops.random_partition_log_prob(labels, selection.size_head(features), selection.score_head(features)).exp()
    assert q.sum().item() == pytest.approx(1, abs=1e-5)
    exact = torch.cat([g.flatten() for g in torch.autograd.grad((q * expected).sum(), heads)])

    many = [view.expand(rows, -1) for view in pair]
    drawn, _ = model.infer(many)
    assert drawn.masks.shape == (3 * rows, 2, dim) and drawn.log_prob.shape == (3 * rows,)
    assert not drawn.masks.requires_grad
    bound = model.bound(many, gamma=0.0)
    found = torch.cat([g.flatten() for g in torch.autograd.grad(bound.elbo, heads)])
    assert float((found - exact).norm() / exact.norm()) < 0.08
    torch.testing.assert_close(bound.elbo, bound.reconstruction - bound.kl)
    alone, _ = model.eval().infer(many)
    assert alone.log_prob is None and len(alone.masks) == rows


def test_unknown_estimators_are_named():
    with pytest.raises(ValueError, match="estimator must be one of straight-through, leave-one-out, got none"):
        PartitionSelection(DIM, estimator="none")
    with pytest.raises(
        ValueError, match="straight-through unless kl is exact and samples >= 2, got leave-one-out with"
    ):
        PartitionSelection(DIM, estimator="leave-one-out")


def test_encoder_is_that_of_locatello():
    kernels = [m.kernel_size for m in ConvEncoder().modules() if isinstance(m, torch.nn.Conv2d)]
    assert kernels == [(4, 4), (4, 4), (2, 2), (2, 2)]
    mean, log_variance = ConvEncoder(6)(torch.rand(2, 3, 64, 64))
    assert mean.shape == log_variance.shape == (2, 6)
    assert ConvDecoder(6)(mean).shape == (2, 3, 64, 64)
    small = {"side": 32, "width": 4}
    assert ConvEncoder(6, **small)(torch.rand(2, 3, 32, 32))[0].shape == (2, 6)
    assert ConvDecoder(6, **small)(mean).shape == (2, 3, 32, 32)
    with pytest.raises(ValueError, match=r"side must be one of \[32, 64\], got 48"):
        ConvEncoder(side=48)


def test_bf16_networks_stay_close_and_return_float32():
    torch.manual_seed(0)
    parts = ConvEncoder(4), ConvDecoder(4)
    views = [torch.rand(4, 3, 64, 64) for _ in range(2)]
    found = []
    for precision in ("float32", "bf16"):
        model = MultiviewVAE(*parts, LabelSelection(), precision=precision)
        means, log_variances = model.encode(views)
        assert means.dtype == log_variances.dtype == torch.float32
        decoded = model.decode(torch.linspace(-1, 1, 32).view(4, 2, 4))
        assert decoded[0].dtype == torch.float32
        found.append((means, torch.stack(decoded)))
    for plain, short in zip(*found, strict=True):
        torch.testing.assert_close(short, plain, rtol=0.02, atol=0.02)
        assert not torch.equal(short, plain)
    with pytest.raises(ValueError, match="precision must be float32 or bf16, got half"):
        MultiviewVAE(*parts, LabelSelection(), precision="half")
