"""torch.library.opcheck of every op in the library, those that only backwards call included."""

import pytest
import torch

import drpm.ops  # noqa: F401  registers the ops
from drpm.ops._tau import library_op

B, K, N = 2, 3, 5
DTYPE = torch.float64


def real(*shape):
    return torch.randn(*shape, dtype=DTYPE)


def learned(*shape):
    return real(*shape).requires_grad_()


def samples():
    """One call of each op and of its sibling for a temperature in a tensor, if it takes one.

    The arguments with a gradient are those that the op is differentiable in.
    """
    m, n, seed = torch.full((1, K), N), torch.tensor([N]), torch.tensor([7])
    m_rows = m.expand(B, K).contiguous()
    sizes = torch.tensor([[1.0, 2.0, 2.0], [0.0, 5.0, 0.0]], dtype=DTYPE)
    none = torch.empty((0, K), dtype=torch.int64)
    natural = torch.arange(K).unsqueeze(0)
    labels = torch.randint(0, K, (B, N))
    scores = real(B, N)
    order = scores.argsort(-1, descending=True)
    counts = (torch.full((B,), 4), torch.full((B,), 5), torch.full((B,), 6))
    omega = real(B, K)
    _, merged = torch.ops.drpm.mvhg_sample_merged(omega, m, n, seed, none, 1.0, 2, True, True, True)
    _, exact = torch.ops.drpm.mvhg_sample_exact(omega, m, n, seed, none, 1.0, 2, True, True, True)
    merged_log_prob = torch.ops.drpm.mvhg_log_prob_merged(sizes, omega, m, n)
    drawn = real(2 * B, K)
    calls = {
        "gumbel_noise": (seed, 0, 2, 3, 4, True),
        "hypergeometric_log_weights": (learned(B), learned(B), *counts, 5),
        "hypergeometric_log_weights_backward": (learned(B, 5), *counts),
        "mvhg_sample_merged": (learned(B, K), m, n, seed, natural, 0.5, 2, True, True, True),
        "mvhg_sample_merged_backward": (drawn, omega, m, n, none, merged),
        "mvhg_log_prob_merged": (sizes.clone().requires_grad_(), learned(B, K), m, n),
        "mvhg_log_prob_merged_backward": (real(B), sizes, omega, m, n, *merged_log_prob),
        "mvhg_sample_exact": (learned(B, K), m, n, seed, natural, 0.5, 2, False, True, True),
        "mvhg_sample_exact_backward": (drawn, omega, m, n, seed, none, 1.0, 2, True, exact),
        "mvhg_log_normalizer": (learned(B, K), m, n, True),
        "mvhg_log_prob": (sizes.clone().requires_grad_(), learned(B, K), m, n, True),
        "mvhg_covariance_product": (learned(B, K), m, n, learned(B, K)),
        "mvhg_third_cumulant": (learned(B, K), m, n, learned(B, K), learned(B, K)),
        "mvhg_fourth_cumulant": (omega, m, n, learned(B, K), learned(B, K), learned(B, K)),
        "mvhg_entropy": (learned(B, K), m, n),
        "mvhg_entropy_hessian_product": (omega, m, n, learned(B, K)),
        "mvhg_draw": (omega, m, n, seed, 2, 100),
        "mvhg_kl": (learned(B, K), learned(B, K), m, n),
        "k_subset_sample": (learned(B, N), torch.tensor([2]), seed, 2, True, 2),
        "plackett_luce_log_prob": (learned(B, N), order, True),
        "partition_log_prob": (learned(B, N), labels, K, True),
        "partition_mode": (omega, m_rows, scores),
        "partition_marginals": (learned(B, K), m_rows, learned(B, N)),
        "partition_marginals_backward": (real(B, K, N), omega, m_rows, scores),
        "relaxed_sort": (learned(B, N), 0.5, False),
        "relaxed_sort_backward": (learned(B, N, N), scores.clone().requires_grad_(), order, 0.5),
        "relaxed_sort_matmul": (learned(B, N), learned(B, N, 2), 0.5, False),
        "relaxed_sort_matmul_backward": (
            learned(B, N, 2),
            scores.clone().requires_grad_(),
            learned(B, N, 2),
            order,
            0.5,
            False,
        ),
        "partition": (learned(B, N), learned(B, K), 0.5, False, 0.5),
        "partition_backward": (
            learned(B, K, N),
            scores.clone().requires_grad_(),
            learned(B, K),
            order,
            0.5,
            False,
            0.5,
        ),
    }
    for name, call in list(calls.items()):
        at = library_op(name).tau_at
        if at >= 0:
            tau = torch.tensor(call[at], dtype=torch.float64)
            calls[f"{name}_tensor_tau"] = (*call[:at], tau, *call[at + 1 :])
    return calls


def library_ops():
    prefix = "drpm::"
    return sorted(
        name.removeprefix(prefix) for name in torch._C._dispatch_get_all_op_names() if name.startswith(prefix)
    )


def test_every_op_of_the_library_has_a_sample():
    assert library_ops() == sorted(samples())


@pytest.mark.parametrize("name", sorted(samples()))
def test_schema_autograd_and_fake(name):
    kinds = ("test_schema", "test_autograd_registration", "test_faketensor")
    torch.library.opcheck(getattr(torch.ops.drpm, name).default, samples()[name], test_utils=kinds)


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(samples()))
def test_opcheck(name):
    torch.library.opcheck(getattr(torch.ops.drpm, name).default, samples()[name])


@pytest.mark.parametrize("name", sorted(samples()))
def test_vmap_is_registered(name):
    assert torch._C._dispatch_has_kernel_for_dispatch_key(f"drpm::{name}", "FuncTorchBatched")
