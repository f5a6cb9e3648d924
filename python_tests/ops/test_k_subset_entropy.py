import pytest
import torch

from drpm import ops, reference
from python_tests.ops.k_subset_laws import probabilities


@pytest.mark.parametrize(("n", "k"), [(6, 0), (6, 1), (6, 3), (6, 6), (11, 5)])
def test_against_enumeration(n: int, k: int) -> None:
    log_weights = 3 * torch.randn(n, dtype=torch.float64) + 7
    p = probabilities(log_weights, k)
    wanted = -(p * p.log()).sum()
    torch.testing.assert_close(ops.k_subset_entropy(log_weights, k), wanted, rtol=1e-11, atol=1e-12)
    torch.testing.assert_close(reference.k_subset_entropy(log_weights, k), wanted, rtol=1e-11, atol=1e-12)


def test_gradients_to_second_order() -> None:
    log_weights = torch.randn(2, 6, dtype=torch.float64, requires_grad=True)
    k = torch.tensor([2, 4])
    assert torch.autograd.gradcheck(lambda w: ops.k_subset_entropy(w, k), (log_weights,))
    assert torch.autograd.gradgradcheck(lambda w: ops.k_subset_entropy(w, k), (log_weights,))


def test_elements_of_weight_zero_and_a_common_constant_do_not_count() -> None:
    log_weights = torch.tensor([0.4, -torch.inf, 1.0, -0.2], dtype=torch.float64)
    entropy = ops.k_subset_entropy(log_weights, 2)
    torch.testing.assert_close(entropy, ops.k_subset_entropy(log_weights[[0, 2, 3]], 2))
    torch.testing.assert_close(entropy, ops.k_subset_entropy(log_weights + 1e6, 2), atol=1e-9, rtol=0)
