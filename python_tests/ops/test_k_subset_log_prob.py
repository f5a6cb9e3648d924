import pytest
import torch

from drpm import ops, reference
from drpm.testing import assert_matches_reference
from python_tests.ops.k_subset_laws import probabilities, subsets


@pytest.mark.parametrize(("n", "k"), [(6, 0), (6, 1), (6, 3), (6, 6), (11, 5)])
def test_all_subsets_against_enumeration(n: int, k: int) -> None:
    log_weights = 3 * torch.randn(n, dtype=torch.float64)
    log_prob = ops.k_subset_log_prob(subsets(n, k), log_weights, k)
    torch.testing.assert_close(log_prob.exp(), probabilities(log_weights, k), rtol=1e-12, atol=1e-15)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_against_the_recurrence(dtype: torch.dtype) -> None:
    log_weights = torch.randn(3, 40, dtype=dtype)
    mask = ops.k_subset_sample(log_weights, 12, seed=1)
    assert_matches_reference(
        ops.k_subset_log_prob(mask, log_weights, 12),
        reference.k_subset_log_prob(mask, log_weights.double(), 12),
        reference.k_subset_log_prob(mask, log_weights, 12),
    )


def test_gradients_to_second_order() -> None:
    log_weights = torch.randn(2, 7, dtype=torch.float64, requires_grad=True)
    k = torch.tensor([2, 4])
    mask = ops.k_subset_sample(log_weights.detach(), k, seed=0)
    assert torch.autograd.gradcheck(lambda w: ops.k_subset_log_prob(mask, w, k), (log_weights,))
    assert torch.autograd.gradgradcheck(lambda w: ops.k_subset_log_prob(mask, w, k), (log_weights,))


def test_masks_of_any_dtype_and_wrong_masks() -> None:
    log_weights = torch.tensor([0.1, 0.7, -0.3, -torch.inf])
    masks = torch.tensor([[1, 1, 0, 0], [1, 0, 0, 0], [1, 0, 0, 1]])
    log_prob = ops.k_subset_log_prob(masks, log_weights, 2)
    assert log_prob[0] < 0
    assert torch.equal(log_prob[1:], torch.full((2,), -torch.inf))
    for other in (masks.bool(), masks.float(), masks.to(torch.int8)):
        assert torch.equal(ops.k_subset_log_prob(other, log_weights, 2), log_prob)
    with pytest.raises(ValueError, match=r"k_subset_log_prob: mask must hold 0 and 1, got 0\.5"):
        ops.k_subset_log_prob(torch.tensor([0.5, 0.5, 1.0, 0.0]), log_weights, 2)
    with pytest.raises(ValueError, match="k_subset_log_prob: mask must have 4 elements"):
        ops.k_subset_log_prob(torch.tensor([1, 1, 0]), log_weights, 2)


def test_lengths_ignore_what_lies_beyond() -> None:
    log_weights, mask = torch.randn(6), torch.tensor([1, 0, 1, 1, 1, 0])
    got = ops.k_subset_log_prob(mask, log_weights, 2, lengths=3)
    torch.testing.assert_close(got, ops.k_subset_log_prob(mask[:3], log_weights[:3], 2))
