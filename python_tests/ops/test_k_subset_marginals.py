import pytest
import torch

from drpm import ops, reference
from python_tests.ops.k_subset_laws import probabilities, subsets


@pytest.mark.parametrize(("n", "k"), [(6, 0), (6, 1), (6, 3), (6, 6), (11, 5)])
def test_against_enumeration(n: int, k: int) -> None:
    log_weights = 3 * torch.randn(n, dtype=torch.float64)
    wanted = probabilities(log_weights, k) @ subsets(n, k)
    torch.testing.assert_close(ops.k_subset_marginals(log_weights, k), wanted, rtol=1e-12, atol=1e-14)
    torch.testing.assert_close(reference.k_subset_marginals(log_weights, k), wanted, rtol=1e-12, atol=1e-14)


def test_gradients_to_second_order() -> None:
    log_weights = torch.randn(2, 6, dtype=torch.float64, requires_grad=True)
    k = torch.tensor([2, 4])
    assert torch.autograd.gradcheck(lambda w: ops.k_subset_marginals(w, k), (log_weights,))
    assert torch.autograd.gradgradcheck(lambda w: ops.k_subset_marginals(w, k), (log_weights,))


def test_the_two_laws_of_k_of_n_differ() -> None:
    log_weights = torch.tensor([10.0, 1.0, 1.0], dtype=torch.float64).log()
    bernoulli = ops.k_subset_log_prob(torch.tensor([0, 1, 1]), log_weights, 2).exp()
    plackett_luce = ops.partition_log_prob(torch.tensor([1, 0, 0]), log_weights, 2).exp()
    torch.testing.assert_close(bernoulli, torch.tensor(1 / 21, dtype=torch.float64))
    torch.testing.assert_close(plackett_luce, torch.tensor(2 * (1 / 12) * (1 / 11), dtype=torch.float64))


def test_zero_weights_and_lengths() -> None:
    log_weights = torch.tensor([0.4, -torch.inf, 1.0, -0.2])
    mean = ops.k_subset_marginals(log_weights, 2)
    assert mean[1] == 0
    torch.testing.assert_close(mean[[0, 2, 3]], ops.k_subset_marginals(log_weights[[0, 2, 3]], 2))
    torch.testing.assert_close(ops.k_subset_marginals(torch.randn(5), 2, lengths=2), torch.tensor([1.0, 1, 0, 0, 0]))
