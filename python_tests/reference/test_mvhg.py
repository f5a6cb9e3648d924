import math

import pytest
import torch

from drpm.reference import hypergeometric_log_weights, mvhg_log_normalizer, mvhg_log_prob, mvhg_sample
from drpm.reference.mvhg import merged_classes

from .enumeration import mvhg_log_weights, sizes_in_support

CASES = [((3, 5, 4), 5), ((2, 0, 6, 3), 7), ((4, 4), 8), ((1, 2, 3), 0), ((5,), 3), ((6, 1, 1, 1), 8)]


def gumbel_noise(*shape):
    return -torch.empty(shape, dtype=torch.float64).exponential_().log()


def two_class_log_pmf(log_left, log_right, m_left, m_right, n):
    """log PMF of the two-class distribution from integer binomials, {x: value}."""
    weights = {
        x: math.log(math.comb(m_left, x)) + math.log(math.comb(m_right, n - x)) + x * log_left + (n - x) * log_right
        for x in range(max(0, n - m_right), min(m_left, n) + 1)
    }
    total = math.log(sum(math.exp(w) for w in weights.values()))
    return {x: w - total for x, w in weights.items()}


def merged_log_prob(sizes, log_omega, m, n):
    """Probability of the merged chain from integer binomials."""
    total = 0.0
    for k in range(len(m) - 1):
        m_right = sum(m[k + 1 :])
        omega_right = sum(c * math.exp(w) for c, w in zip(m[k + 1 :], log_omega[k + 1 :], strict=True))
        log_right = math.log(omega_right / m_right) if m_right else 0.0
        total += two_class_log_pmf(log_omega[k], log_right, m[k], m_right, n)[sizes[k]]
        n -= sizes[k]
    return total


@pytest.mark.parametrize("m_left, m_right, n", [(5, 7, 6), (4, 3, 6), (0, 4, 2), (4, 0, 3), (3, 3, 0)])
def test_log_weights_are_the_two_class_pmf(m_left, m_right, n):
    left, right = torch.tensor([0.7, -1.1], dtype=torch.float64)
    weights = hypergeometric_log_weights(left, right, m_left, m_right, n)
    assert weights.shape == (m_left + 1,)
    expected = torch.full((m_left + 1,), float("-inf"), dtype=torch.float64)
    for x, value in two_class_log_pmf(0.7, -1.1, m_left, m_right, n).items():
        expected[x] = value
    torch.testing.assert_close(weights.log_softmax(-1), expected, rtol=0, atol=1e-13)


def test_log_weights_keep_the_constants_of_the_equation():
    left, right = torch.tensor([0.3, 0.9], dtype=torch.float64)
    weights = hypergeometric_log_weights(left, right, 4, 6, 5)
    by_hand = 2 * 0.3 + 3 * 0.9 - math.log(2 * 6 * 2 * 6)  # x = 2: 2! 3! 2! 3!
    assert abs(weights[2] - by_hand) < 1e-6


def test_log_weights_batch_over_counts_and_have_clean_gradients():
    left = torch.randn(3, 2, dtype=torch.float64, requires_grad=True)
    right = torch.randn(3, 2, dtype=torch.float64, requires_grad=True)
    m_left, n = torch.tensor([[2, 5], [0, 3], [4, 4]]), torch.tensor([[1, 7], [3, 0], [9, 4]])
    weights = hypergeometric_log_weights(left, right, m_left, 5, n)
    assert weights.shape == (3, 2, 6)
    x = torch.arange(6)
    inside = (x >= (n - 5)[..., None]) & (x <= m_left[..., None]) & (x <= n[..., None])
    assert torch.equal(torch.isfinite(weights), inside)
    finite = torch.where(inside, weights, 0.0)
    for grad in torch.autograd.grad(finite.sum(), (left, right)):
        assert torch.isfinite(grad).all()


def test_log_weights_gradcheck_including_a_real_count():
    arguments = [torch.tensor(v, dtype=torch.float64, requires_grad=True) for v in (0.4, -0.8, 5.0)]
    assert torch.autograd.gradcheck(lambda left, right, n: hypergeometric_log_weights(left, right, 4, 6, n), arguments)


@pytest.mark.parametrize("m, n", CASES)
def test_exact_log_prob_and_normalizer_match_enumeration(m, n):
    torch.manual_seed(0)
    log_omega = torch.randn(len(m), dtype=torch.float64) * 2
    support, log_weights = mvhg_log_weights(log_omega, m, n)
    log_p0 = log_weights.logsumexp(0)
    torch.testing.assert_close(mvhg_log_normalizer(log_omega, torch.tensor(m), n), log_p0, rtol=0, atol=1e-12)
    log_prob = mvhg_log_prob(support, log_omega, torch.tensor(m), n)
    torch.testing.assert_close(log_prob, log_weights - log_p0, rtol=0, atol=1e-12)


@pytest.mark.parametrize("m, n", CASES)
def test_merged_log_prob_matches_the_chain_and_sums_to_one(m, n):
    torch.manual_seed(1)
    log_omega = torch.randn(len(m), dtype=torch.float64)
    support = sizes_in_support(m, n)
    log_prob = mvhg_log_prob(support, log_omega, torch.tensor(m), n, conditionals="merged")
    expected = [merged_log_prob(sizes, log_omega.tolist(), m, n) for sizes in support.tolist()]
    torch.testing.assert_close(log_prob, torch.tensor(expected, dtype=torch.float64), rtol=0, atol=1e-12)
    assert abs(log_prob.exp().sum() - 1) < 1e-12


def test_merging_is_exact_in_the_central_case_only():
    m, n = (4, 3, 5), 6
    support = sizes_in_support(m, n)
    for log_omega, equal in (
        (torch.zeros(3).double(), True),
        (torch.tensor([0.0, 2.0, 0.0]).double(), False),
    ):
        both = [
            mvhg_log_prob(support, log_omega, torch.tensor(m), n, conditionals=kind) for kind in ("exact", "merged")
        ]
        assert torch.allclose(*both, rtol=0, atol=1e-10) is equal


@pytest.mark.parametrize("conditionals", ["exact", "merged"])
def test_log_prob_outside_the_support_and_for_impossible_n(conditionals):
    log_omega = torch.randn(3, dtype=torch.float64, requires_grad=True)
    outside = torch.tensor([[4.0, 0, 0], [-1, 3, 2], [1, 1, 1], [2, 1, 2]], dtype=torch.float64)
    outside.requires_grad_()
    log_prob = mvhg_log_prob(outside, log_omega, 3, 4, conditionals=conditionals)
    assert torch.equal(log_prob, torch.full((4,), float("-inf"), dtype=torch.float64))
    for grad in torch.autograd.grad(log_prob.sum(), (outside, log_omega)):
        assert torch.equal(grad, torch.zeros_like(grad))
    impossible = mvhg_log_prob(torch.zeros(3), torch.zeros(3), 3, torch.tensor([10, 9, -1]))
    assert torch.equal(impossible.isnan(), torch.tensor([True, False, True]))


def test_log_prob_gradient_in_the_sizes_is_the_digamma_form():
    log_omega = torch.tensor([0.5, -1.0, 0.2], dtype=torch.float64)
    sizes = torch.tensor([2.0, 1.0, 3.0], dtype=torch.float64, requires_grad=True)
    (grad,) = torch.autograd.grad(mvhg_log_prob(sizes, log_omega, 5, 6), sizes)
    value = sizes.detach()
    torch.testing.assert_close(grad, log_omega + torch.digamma(6 - value) - torch.digamma(value + 1))


@pytest.mark.parametrize("conditionals", ["exact", "merged"])
def test_log_prob_gradcheck(conditionals):
    torch.manual_seed(2)
    log_omega = torch.randn(2, 3, dtype=torch.float64, requires_grad=True)
    sizes = torch.tensor([[2.0, 1.0, 3.0], [1.2, 2.6, 2.2]], dtype=torch.float64, requires_grad=True)

    def on_the_simplex(free, log_omega):  # the last size follows, so that steps stay in the support
        last = 6 - free.sum(-1, keepdim=True)
        return mvhg_log_prob(torch.cat([free, last], -1), log_omega, 5, 6, conditionals=conditionals)

    free = sizes.detach()[:, :2].clone().requires_grad_()
    assert torch.autograd.gradcheck(on_the_simplex, (free, log_omega))


@pytest.mark.parametrize("conditionals", ["exact", "merged"])
@pytest.mark.parametrize("m, n", CASES)
def test_sampled_sizes_are_whole_and_in_the_support(m, n, conditionals):
    torch.manual_seed(3)
    for dtype in (torch.float32, torch.float64):
        noise = gumbel_noise(50, len(m), max(m) + 1).to(dtype)
        log_omega = torch.randn(len(m), dtype=dtype) * 3
        sizes = mvhg_sample(log_omega, torch.tensor(m), n, gumbel=noise, conditionals=conditionals)
        assert sizes.shape == (50, len(m)) and sizes.dtype == dtype
        assert torch.equal(sizes, sizes.round())
        assert (sizes.sum(-1) == n).all() and (sizes >= 0).all() and (sizes <= torch.tensor(m)).all()


@pytest.mark.parametrize("conditionals", ["exact", "merged"])
def test_sampler_follows_its_law(conditionals):
    torch.manual_seed(4)
    m, n, draws = (3, 5, 4), 5, 40_000
    log_omega = torch.tensor([0.0, 1.5, -0.5], dtype=torch.float64)
    noise = gumbel_noise(draws, 2, 6)
    sizes = mvhg_sample(log_omega, torch.tensor(m), n, gumbel=noise, conditionals=conditionals)
    support = sizes_in_support(m, n)
    probability = mvhg_log_prob(support, log_omega, torch.tensor(m), n, conditionals=conditionals).exp()
    count = (sizes[:, None] == support).all(-1).sum(0)
    statistic = ((count - draws * probability).square() / (draws * probability))[draws * probability > 5]
    degrees = len(statistic)
    assert statistic.sum() < degrees + 5 * math.sqrt(2 * degrees)  # five sigma, fixed seed


@pytest.mark.parametrize("conditionals", ["exact", "merged"])
@pytest.mark.parametrize("class_order", [None, (2, 0, 3, 1), (3, 2, 1, 0)])
def test_noise_is_indexed_by_class_and_the_argmax_wins(conditionals, class_order):
    """Replays the chain with integer binomials (merged) or enumeration (exact)."""
    torch.manual_seed(5)
    m, n, num_classes = (3, 5, 4, 2), 7, 4
    log_omega = torch.randn(num_classes, dtype=torch.float64)
    noise = gumbel_noise(20, num_classes, 6)
    sizes = mvhg_sample(log_omega, torch.tensor(m), n, gumbel=noise, conditionals=conditionals, class_order=class_order)
    order = class_order or range(num_classes)
    for row, drawn in zip(noise, sizes.tolist(), strict=True):
        left = n
        for position, k in enumerate(order[:-1]):
            later = list(order[position + 1 :])
            later_m, later_omega = [m[c] for c in later], log_omega[later]
            m_right, log_right = merged_classes(later_omega, torch.tensor(later_m))
            perturbed = {}
            for x in range(max(0, left - sum(later_m)), min(m[k], left) + 1):
                value = math.log(math.comb(m[k], x)) + x * log_omega[k].item() + row[k, x].item()
                if conditionals == "exact":
                    value += mvhg_log_weights(later_omega, later_m, left - x)[1].logsumexp(0).item()
                else:
                    value += (left - x) * log_right.item() + math.log(math.comb(int(m_right), left - x))
                perturbed[x] = value
            assert drawn[k] == max(perturbed, key=perturbed.get)
            left -= int(drawn[k])
        assert drawn[order[-1]] == left


def test_no_noise_is_the_successive_argmax_and_ties_go_to_the_first_index():
    assert mvhg_sample(torch.zeros(2), 1, 1).tolist() == [0.0, 1.0]
    assert mvhg_sample(torch.zeros(3), 6, 6, conditionals="merged").tolist() == [2.0, 2.0, 2.0]


@pytest.mark.parametrize("conditionals", ["exact", "merged"])
def test_low_temperature_relaxation_approaches_the_hard_sizes(conditionals):
    torch.manual_seed(6)
    arguments = {"gumbel": gumbel_noise(10, 3, 6), "conditionals": conditionals}
    log_omega = torch.randn(10, 4, dtype=torch.float64)
    hard = mvhg_sample(log_omega, 5, 7, 1e-4, hard=True, **arguments)
    soft = mvhg_sample(log_omega, 5, 7, 1e-4, hard=False, **arguments)
    torch.testing.assert_close(soft, hard, rtol=0, atol=1e-3)


@pytest.mark.parametrize("conditionals", ["exact", "merged"])
@pytest.mark.parametrize("class_order", [None, (1, 3, 0, 2)])
def test_hard_and_relaxed_share_their_gradient(conditionals, class_order):
    torch.manual_seed(7)
    log_omega = torch.randn(4, dtype=torch.float64, requires_grad=True)
    weights, noise = torch.randn(6, 4, dtype=torch.float64), gumbel_noise(6, 4, 6)
    grads = [
        torch.autograd.grad(
            (
                weights
                * mvhg_sample(
                    log_omega,
                    5,
                    8,
                    0.6,
                    hard=hard,
                    gumbel=noise,
                    conditionals=conditionals,
                    class_order=class_order,
                )
            ).sum(),
            log_omega,
        )[0]
        for hard in (True, False)
    ]
    torch.testing.assert_close(*grads, rtol=1e-12, atol=1e-13)
    assert grads[0].abs().max() > 1e-3


def frozen_chain(log_omega, anchor, m, n, tau, noise, conditionals):
    """Relaxed sizes as a smooth function of log_omega near `anchor`, whose gradient there is the claimed one.

    The remaining count is the anchor's hard one plus what the relaxed sizes have moved since the anchor;
    log G is continued from its table by the central difference.
    """

    def log_suffix(k, rho, log_omega):
        if 0 <= rho <= sum(m[k + 1 :]):
            return mvhg_log_weights(log_omega[k + 1 :], m[k + 1 :], rho)[1].logsumexp(0)
        return None

    def chain(log_omega, reference):
        sizes, moved, left = [], torch.zeros((), dtype=torch.float64), n
        for k in range(len(m) - 1):
            xs = range(max(0, left - sum(m[k + 1 :])), min(m[k], left) + 1)
            logits = []
            for x in xs:
                rho = left - x
                value = math.log(math.comb(m[k], x)) + x * log_omega[k] + noise[k, x]
                if conditionals == "exact":
                    up, here, down = (log_suffix(k, r, anchor) for r in (rho + 1, rho, rho - 1))
                    known = [v for v in (up, here, down) if v is not None]
                    slope = (known[0] - known[-1]) / (len(known) - 1) if len(known) > 1 else 0.0
                    value = value + log_suffix(k, rho, log_omega) + slope * moved
                else:
                    m_right, log_right = merged_classes(log_omega[k + 1 :], torch.tensor(m[k + 1 :]))
                    real_rho = rho + moved
                    value = value + real_rho * log_right
                    value = value - torch.lgamma(real_rho + 1) - torch.lgamma(m_right - real_rho + 1)
                logits.append(value)
            logits = torch.stack(logits)
            relaxed = ((logits / tau).softmax(0) * torch.tensor(list(xs), dtype=torch.float64)).sum()
            sizes.append(relaxed)
            if reference is not None:
                moved = moved - (relaxed - reference[k])
            left -= xs[int(logits.detach().argmax())]
        return torch.stack(sizes)

    reference = chain(anchor, None).detach()
    sizes = chain(log_omega, reference)
    return torch.cat([sizes, n - sizes.sum(0, keepdim=True)])


@pytest.mark.parametrize("conditionals", ["exact", "merged"])
@pytest.mark.parametrize("first", [0.0, -3.0])  # at -3 the first size is 0: the next class meets all n items
@pytest.mark.parametrize("m, n", [((4, 5, 3, 4), 7), ((2, 1, 3), 5), ((6, 6, 6), 6), ((5, 5, 5, 5), 4)])
def test_straight_through_gradient_is_that_of_the_frozen_chain(m, n, first, conditionals):
    torch.manual_seed(8)
    tau, step = 0.7, 1e-5
    for _ in range(4):
        log_omega = torch.randn(len(m), dtype=torch.float64)
        log_omega[0] += first
        log_omega.requires_grad_()
        noise = gumbel_noise(len(m), max(m) + 1)
        weights = torch.randn(len(m), dtype=torch.float64)
        sizes = mvhg_sample(log_omega, torch.tensor(m), n, tau, hard=False, gumbel=noise, conditionals=conditionals)
        anchor = log_omega.detach()
        arguments = (anchor, m, n, tau, noise, conditionals)
        torch.testing.assert_close(sizes.detach(), frozen_chain(anchor, *arguments), rtol=0, atol=1e-11)
        (grad,) = torch.autograd.grad((weights * sizes).sum(), log_omega)
        expected = [
            (frozen_chain(anchor + e, *arguments) - frozen_chain(anchor - e, *arguments)) @ weights / (2 * step)
            for e in step * torch.eye(len(m), dtype=torch.float64)
        ]
        torch.testing.assert_close(grad, torch.stack(expected), rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize("conditionals", ["exact", "merged"])
@pytest.mark.parametrize("tau", [1e-4, 1.0, 1e3])
def test_extreme_parameters_stay_finite(conditionals, tau):
    torch.manual_seed(9)
    log_omega = torch.tensor([[80.0, -80.0, 0.0, 80.0], [-80.0, 80.0, 80.0, -80.0]], requires_grad=True)
    noise = gumbel_noise(2, 3, 21).float()
    for hard in (True, False):
        sizes = mvhg_sample(log_omega, 20, 30, tau, hard=hard, gumbel=noise, conditionals=conditionals)
        (grad,) = torch.autograd.grad(sizes.square().sum(), log_omega)
        assert torch.isfinite(sizes).all() and torch.isfinite(grad).all()
    log_prob = mvhg_log_prob(torch.tensor([5.0, 5.0, 10.0, 10.0]), log_omega, 20, 30, conditionals=conditionals)
    (grad,) = torch.autograd.grad(log_prob.sum(), log_omega)
    assert torch.isfinite(log_prob).all() and torch.isfinite(grad).all()


@pytest.mark.parametrize("conditionals", ["exact", "merged"])
def test_edges(conditionals):
    kind = {"conditionals": conditionals}
    assert mvhg_sample(torch.zeros(2, 1), 5, 3, **kind).tolist() == [[3.0], [3.0]]
    assert mvhg_log_prob(torch.full((2, 1), 3.0), torch.randn(2, 1), 5, 3, **kind).tolist() == [0.0, 0.0]
    assert mvhg_sample(torch.randn(3), 4, 0, **kind).tolist() == [0.0, 0.0, 0.0]
    assert mvhg_sample(torch.randn(3), 0, 0, **kind).tolist() == [0.0, 0.0, 0.0]
    assert mvhg_sample(torch.randn(3), torch.tensor([0, 3, 0]), 2, **kind).tolist() == [0.0, 2.0, 0.0]
    assert mvhg_sample(torch.randn(3), 2, 6, **kind).tolist() == [2.0, 2.0, 2.0]
    assert mvhg_sample(torch.randn(0, 3), 4, 2, **kind).shape == (0, 3)
    assert mvhg_log_prob(torch.zeros(0, 3), torch.randn(0, 3), 4, 2, **kind).shape == (0,)
    impossible = mvhg_sample(torch.randn(3, 3), 2, torch.tensor([7, 6, -1]), **kind)
    assert torch.equal(impossible.isnan().all(-1), torch.tensor([True, False, True]))


@pytest.mark.parametrize("conditionals", ["exact", "merged"])
def test_batched_counts_match_row_by_row(conditionals):
    torch.manual_seed(10)
    log_omega = torch.randn(3, 3, dtype=torch.float64)
    m, n = torch.tensor([[2, 5, 0], [3, 3, 3], [1, 6, 4]]), torch.tensor([4, 9, 0])
    noise = gumbel_noise(3, 2, 7)
    together = mvhg_sample(log_omega, m, n, 0.5, hard=False, gumbel=noise, conditionals=conditionals)
    for row in range(3):
        alone = mvhg_sample(
            log_omega[row],
            m[row],
            n[row],
            0.5,
            hard=False,
            gumbel=noise[row, :, : m[row].max() + 1],
            conditionals=conditionals,
        )
        torch.testing.assert_close(together[row], alone, rtol=0, atol=1e-12)
