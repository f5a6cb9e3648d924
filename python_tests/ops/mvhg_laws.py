"""Laws of the MVHG by enumeration, and the goodness-of-fit test against them."""

import itertools
import math

import torch

from drpm import reference


def enumerate_law(m, n, log_omega):
    """Support (S, K), log P0 and probabilities from integer binomials."""
    support = [x for x in itertools.product(*[range(c + 1) for c in m]) if sum(x) == n]
    log_weights = torch.tensor(
        [
            sum(math.log(math.comb(c, x)) + x * w for c, x, w in zip(m, sizes, log_omega.tolist(), strict=True))
            for sizes in support
        ],
        dtype=torch.float64,
    )
    log_p0 = torch.logsumexp(log_weights, 0)
    return torch.tensor(support, dtype=torch.float64), log_p0, log_weights - log_p0


def small_settings():
    """K <= 5, m <= 6, all kinds: zero classes, point masses, weights far apart."""
    generator = torch.Generator().manual_seed(1)
    for index in range(120):
        classes = 1 + index % 5
        m = torch.randint(0, 7, (classes,), generator=generator)
        n = int(torch.randint(0, int(m.sum()) + 1, (1,), generator=generator))
        spread = (0.3, 2.0, 6.0, 40.0)[index % 4]
        weights = spread * torch.randn(2, classes, dtype=torch.float64, generator=generator)
        yield m.tolist(), n, weights.clamp(-80, 80)


def enumerated_law(log_omega, m, n, conditionals):
    """Support (S, K) and probabilities, from the twin's log-probability, itself tested against integer binomials."""
    every = [x for x in itertools.product(*[range(c + 1) for c in m]) if sum(x) == n]
    sizes = torch.tensor(every, dtype=torch.float64)
    log_prob = reference.mvhg_log_prob(sizes, log_omega, torch.tensor(m), n, conditionals=conditionals)
    return sizes, log_prob.exp()


FAILURE_RATE = 1e-4  # of a correct sampler, over all goodness-of-fit cases of one test


def chi_square_p_value(draws, support, prob):
    """Pearson's test; outcomes expected fewer than five times are pooled."""
    from scipy.stats import chi2

    key = torch.tensor([100.0**j for j in range(support.shape[-1])], dtype=torch.float64)
    counts = (draws.double() @ key).unsqueeze(-1).eq(support @ key).sum(0).double()
    assert counts.sum() == len(draws)  # no draw outside the support
    expected = len(draws) * prob
    rare = expected < 5
    pooled = torch.cat([counts[~rare], counts[rare].sum().unsqueeze(0)])
    pooled_expected = torch.cat([expected[~rare], expected[rare].sum().unsqueeze(0)])
    keep = pooled_expected > 0
    statistic = ((pooled - pooled_expected)[keep] ** 2 / pooled_expected[keep]).sum()
    return chi2.sf(float(statistic), int(keep.sum()) - 1)


GOODNESS_CASES = [
    ((4, 3, 5), 6, (0.0, 1.5, -0.5)),
    ((2, 2, 2, 2), 4, (2.0, 0.0, 0.0, -2.0)),
    ((8, 1), 5, (0.3, 4.0)),
    ((6, 6, 6), 9, (0.0, 2.3, 0.0)),
]
