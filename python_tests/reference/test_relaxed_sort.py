import pytest
import torch

from drpm.reference import relaxed_sort, relaxed_sort_matmul


def test_matches_the_definition_entry_by_entry():
    torch.manual_seed(0)
    scores, tau = torch.randn(6, dtype=torch.float64), 0.7
    n = len(scores)
    expected = torch.empty(n, n, dtype=torch.float64)
    for i in range(1, n + 1):
        logits = [(n + 1 - 2 * i) * s - sum(abs(s - other) for other in scores) for s in scores]
        expected[i - 1] = torch.stack(logits).div(tau).softmax(0)
    torch.testing.assert_close(relaxed_sort(scores, tau), expected, rtol=1e-13, atol=1e-15)


def test_low_temperature_gives_the_hard_permutation():
    torch.manual_seed(1)
    scores = torch.randn(4, 7, dtype=torch.float64)
    hard = relaxed_sort(scores, hard=True)
    torch.testing.assert_close(relaxed_sort(scores, 1e-4), hard, rtol=0, atol=1e-12)
    torch.testing.assert_close((hard @ scores[..., None])[..., 0], scores.sort(-1, descending=True).values)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_hard_is_an_exact_permutation_with_ties_by_index(dtype):
    scores = torch.tensor([1.0, 3.0, 1.0, 3.0, 2.0], dtype=dtype)
    hard = relaxed_sort(scores, 0.3, hard=True)
    assert hard.dtype == dtype
    assert torch.equal(hard.argmax(-1), torch.tensor([1, 3, 4, 0, 2]))
    assert torch.equal(hard, torch.eye(5, dtype=dtype)[[1, 3, 4, 0, 2]])


def test_ties_keep_their_order_in_long_rows():
    scores = torch.arange(500) % 3
    order = relaxed_sort(scores.double(), hard=True).argmax(-1)
    assert torch.equal(order, torch.cat([(scores == value).nonzero()[:, 0] for value in (2, 1, 0)]))


def test_rows_sum_to_one_and_permuting_the_scores_permutes_the_columns():
    torch.manual_seed(2)
    scores, shuffle = torch.randn(2, 8, dtype=torch.float64), torch.randperm(8)
    relaxed = relaxed_sort(scores, 0.5)
    torch.testing.assert_close(relaxed.sum(-1), torch.ones(2, 8, dtype=torch.float64))
    torch.testing.assert_close(relaxed_sort(scores[:, shuffle], 0.5), relaxed[..., shuffle])


def test_hard_has_the_gradient_of_the_relaxation():
    torch.manual_seed(3)
    scores = torch.randn(6, dtype=torch.float64, requires_grad=True)
    weights = torch.randn(6, 6, dtype=torch.float64)
    grads = [
        torch.autograd.grad((relaxed_sort(scores, 0.8, hard=hard) * weights).sum(), scores)[0] for hard in (True, False)
    ]
    assert torch.equal(grads[0], grads[1])


def test_gradcheck():
    torch.manual_seed(4)
    scores = torch.randn(2, 5, dtype=torch.float64, requires_grad=True)
    values = torch.randn(2, 5, 3, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda s: relaxed_sort(s, 0.9), scores)
    assert torch.autograd.gradcheck(lambda s, v: relaxed_sort_matmul(s, v, 0.9), (scores, values))


@pytest.mark.parametrize("shape", [(0,), (1,), (0, 4), (3, 0), (2, 3, 1)])
def test_empty_and_single(shape):
    for hard in (True, False):
        assert relaxed_sort(torch.zeros(shape), hard=hard).shape == (*shape, shape[-1])
