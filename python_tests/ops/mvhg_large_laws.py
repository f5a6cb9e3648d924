"""The MVHG at counts where nothing can be summed outcome by outcome, in 40 digits."""

import mpmath
from mpmath import mp, mpf

mp.dps = 40


def log_choose(m, x):
    m, x = mpf(m), mpf(x)
    return mpmath.loggamma(m + 1) - mpmath.loggamma(x + 1) - mpmath.loggamma(m - x + 1)


def sampled(function, centre, deviation):
    """Sum over whole numbers of a smooth bell, by every stride-th of them: the trapezoidal rule, whose error for a bell
    of `deviation` >= 8 strides is below e^-1000."""
    stride = max(1, int(deviation) // 8)
    reach = int(14 * deviation) // stride + 1
    return [(stride, x) for i in range(-reach, reach + 1) if function(x := centre + i * stride) is not None]


class TwoClasses:
    """p(x) ∝ C(m_1, x) C(m_2, n − x) e^{a x + b (n − x)}, near `centre`."""

    def __init__(self, m, n, log_omega, centre, deviation):
        self.m, self.n, self.log_omega = m, n, [mpf(float(w)) for w in log_omega]
        points = sampled(self._inside, centre, deviation)
        self.x = [x for _, x in points]
        logs = [self.log_weight(x) for x in self.x]
        top = max(logs)
        self.log_normalizer = top + mpmath.log(points[0][0] * sum(mpmath.exp(v - top) for v in logs))
        self.log_prob = [v - self.log_normalizer for v in logs]
        self.prob = [points[0][0] * mpmath.exp(v) for v in self.log_prob]

    def _inside(self, x):
        return x if max(0, self.n - self.m[1]) <= x <= min(self.m[0], self.n) else None

    def log_weight(self, x):
        a, b = self.log_omega
        return log_choose(self.m[0], x) + log_choose(self.m[1], self.n - x) + a * x + b * (self.n - x)

    def mean_of(self, values):
        return sum(p * v for p, v in zip(self.prob, values, strict=True))

    @property
    def mean(self):
        return self.mean_of(self.x)

    def central(self, power):
        mean = self.mean
        return self.mean_of([(x - mean) ** power for x in self.x])

    @property
    def entropy(self):
        return -self.mean_of(self.log_prob)

    @property
    def entropy_slope(self):
        """By the first log weight, −Cov(x, log p)."""
        mean = self.mean
        pairs = zip(self.x, self.log_prob, strict=True)
        return -self.mean_of([(x - mean) * v for x, v in pairs])
