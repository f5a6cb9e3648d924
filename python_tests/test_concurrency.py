"""Threads, forks, workers and changing thread counts: every op gives bitwise what it gives alone."""

import multiprocessing
import re
import threading
from pathlib import Path

import pytest
import torch

from drpm import ops

ROOT = Path(__file__).parents[1]
THREADS = 8


def problem(dtype, rows=3, n=40, classes=3):
    generator = torch.Generator().manual_seed(5)
    omega, scores = (
        torch.randn(rows, size, generator=generator, dtype=torch.float64).to(dtype) for size in (classes, n)
    )
    return omega, scores, torch.randint(classes, (rows, n), generator=generator)


def calls(omega, scores, labels):
    """A call of every op."""
    n, classes = scores.shape[-1], omega.shape[-1]
    values = scores.unsqueeze(-1) * torch.linspace(0.5, 2.0, 5, dtype=scores.dtype)
    sizes = torch.nn.functional.one_hot(labels, classes).sum(-2).to(omega.dtype)
    order = scores.argsort(-1, descending=True)

    def matrix():  # a graph of its own for each call
        return scores.unsqueeze(-2) * torch.linspace(-1.0, 2.0, classes, dtype=scores.dtype).unsqueeze(-1)

    return {
        "hypergeometric_log_weights": lambda: ops.hypergeometric_log_weights(omega[:, 0], omega[:, 1], n, 2 * n, n),
        "mvhg_sample": lambda: ops.mvhg_sample(omega, n, n, 0.7, sample_shape=4, seed=1),
        "mvhg_sample, relaxed": lambda: ops.mvhg_sample(omega, n, n, 0.7, hard=False, seed=2),
        "mvhg_sample, merged": lambda: ops.mvhg_sample(omega, n, n, 0.7, conditionals="merged", seed=3),
        "mvhg_draw": lambda: ops.mvhg_draw(omega, n, n, sample_shape=4, seed=4),
        "mvhg_draw, by rejection": lambda: ops.mvhg_draw(omega, n, n, sample_shape=4, seed=4, largest_table=1),
        "mvhg_log_prob": lambda: ops.mvhg_log_prob(sizes, omega, n, n),
        "mvhg_log_prob, merged": lambda: ops.mvhg_log_prob(sizes, omega, n, n, conditionals="merged"),
        "mvhg_log_normalizer": lambda: ops.mvhg_log_normalizer(omega, n, n),
        "mvhg_mean": lambda: ops.mvhg_mean(omega, n, n),
        "mvhg_covariance": lambda: ops.mvhg_covariance(omega, n, n),
        "mvhg_entropy": lambda: ops.mvhg_entropy(omega, n, n),
        "mvhg_kl": lambda: ops.mvhg_kl(omega, omega.flip(0), n, n),
        "relaxed_sort": lambda: ops.relaxed_sort(scores, 0.5),
        "relaxed_sort, hard": lambda: ops.relaxed_sort(scores, 0.5, hard=True),
        "relaxed_sort_matmul": lambda: ops.relaxed_sort_matmul(scores, values, 0.5),
        "partition": lambda: ops.partition(scores, sizes, 0.5),
        "partition, relaxed": lambda: ops.partition(scores, sizes, 0.5, hard=False),
        "random_partition": lambda: ops.random_partition(omega, scores, 0.5, sample_shape=2, seed=5).assignment,
        "random_partition, relaxed": lambda: ops.random_partition(omega, scores, 0.5, hard=False, seed=6).assignment,
        "plackett_luce_log_prob": lambda: ops.plackett_luce_log_prob(order, scores),
        "plackett_luce_log_prob, matrix": lambda: ops.plackett_luce_log_prob(ops.relaxed_sort(scores), scores),
        "partition_log_prob": lambda: ops.partition_log_prob(labels, scores, classes),
        "random_partition_log_prob": lambda: ops.random_partition_log_prob(labels, omega, scores),
        "random_assignment": lambda: ops.random_assignment(omega, matrix(), 0.5, sample_shape=2, seed=5).assignment,
        "assignment_log_prob": lambda: ops.assignment_log_prob(labels, matrix()),
        "random_assignment_log_prob": lambda: ops.random_assignment_log_prob(labels, omega, matrix()),
        "partition_log_prob_bounds": lambda: torch.stack(ops.partition_log_prob_bounds(labels, omega, scores)),
        "partition_marginals": lambda: ops.partition_marginals(omega, scores),
        "partition_mode": lambda: ops.partition_mode(omega, scores),
        "k_subset_sample": lambda: ops.k_subset_sample(scores, 7, sample_shape=2, seed=8),
        "k_subset_log_prob": lambda: ops.k_subset_log_prob(labels == 0, scores, (labels == 0).sum(-1)),
        "k_subset_marginals": lambda: ops.k_subset_marginals(scores, 7),
        "k_subset_entropy": lambda: ops.k_subset_entropy(scores, 7),
        "sized_assignment": lambda: (
            ops.sized_assignment(torch.stack([scores, -scores], -2), max_sizes=n, tau=0.7).assignment
        ),
        "gumbel_noise": lambda: ops.gumbel_noise(7, (3, 2, n), stream=ops.STREAM_ORDER),
    }


def results(dtype=torch.float32, **shape):
    """Values and gradients of every op."""
    omega, scores, labels = problem(dtype, **shape)
    inputs = omega.requires_grad_(), scores.requires_grad_()
    found = {}
    for name, call in calls(*inputs, labels).items():
        value = call()
        found[name] = [value.detach()]
        if value.requires_grad:
            weights = torch.linspace(-1.0, 1.0, value.numel(), dtype=value.dtype).reshape(value.shape)
            found[name] += torch.autograd.grad(value, inputs, weights, allow_unused=True)
    return found


def assert_same(got, want):
    for name, tensors in want.items():
        for a, b in zip(got[name], tensors, strict=True):
            assert (a is None and b is None) or torch.equal(a, b), name


def test_no_op_is_missing():
    called = {name.split(",")[0] for name in calls(*problem(torch.float32))}
    assert called == {name for name in ops.__all__ if name.islower()}


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("threads", [1, 2])
def test_eight_threads_at_once(dtype, threads):
    """With one thread inside each op, and with two, which all share the pool of the process."""
    want = results(dtype)
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    start, failed = threading.Barrier(THREADS), []

    def work():
        try:
            torch.set_num_threads(threads)
            start.wait()
            for _ in range(3):
                assert_same(results(dtype), want)
        except BaseException as error:  # an assertion in a thread is lost otherwise
            failed.append(error)

    workers = [threading.Thread(target=work) for _ in range(THREADS)]
    try:
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join(timeout=120)
        assert not any(worker.is_alive() for worker in workers)
    finally:
        torch.set_num_threads(before)
    assert not failed, failed[0]


def test_number_of_threads_may_change_in_between():
    """Rows long enough to be split among threads."""
    shape = {"rows": 2, "n": 500}
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        want = results(**shape)
        for threads in (2, 5, 1):
            torch.set_num_threads(threads)
            assert_same(results(**shape), want)
    finally:
        torch.set_num_threads(before)


def _send(queue):
    queue.put({name: [None if x is None else x.numpy() for x in tensors] for name, tensors in results().items()})


@pytest.mark.filterwarnings("ignore:.*use of fork.*:DeprecationWarning")
def test_a_fork_after_use_works():
    want = results(rows=64)  # starts the threads, which a forked process does not have
    want = results()
    context = multiprocessing.get_context("fork")
    queue = context.SimpleQueue()
    processes = [context.Process(target=_send, args=(queue,)) for _ in range(2)]
    for process in processes:
        process.start()
    try:
        for _ in processes:  # before the join: a full pipe is waited for
            assert queue._reader.poll(120), "a forked process hangs"
            found = queue.get()
            assert_same(
                {name: [None if x is None else torch.from_numpy(x) for x in found[name]] for name in found}, want
            )
        for process in processes:
            process.join(timeout=60)
        assert [process.exitcode for process in processes] == [0, 0]
    finally:
        for process in processes:
            process.kill()
    assert_same(results(), want)


class Partitions(torch.utils.data.Dataset):
    """Partitions drawn in the worker."""

    def __len__(self):
        return 12

    def __getitem__(self, index):
        return ops.random_partition(torch.zeros(3), torch.linspace(0, 1, 40), seed=index).assignment


@pytest.mark.filterwarnings("ignore:.*use of fork.*:DeprecationWarning")
@pytest.mark.parametrize("method", ["fork", pytest.param("spawn", marks=pytest.mark.slow)])  # which imports torch anew
def test_workers_of_a_data_loader(method):
    want = torch.stack([Partitions()[index] for index in range(12)])
    loader = torch.utils.data.DataLoader(Partitions(), 4, num_workers=2, multiprocessing_context=method)
    assert torch.equal(torch.cat(list(loader)), want)


def test_readers_take_no_pickles():
    """Every torch.load is weights-only, and nothing else unpickles what a file holds."""
    loads, found = r"torch\.load\((?:[^()]|\([^()]*\))*\)", 0
    for folder in ("drpm", "experiments", "benchmarks", "tools"):
        for path in sorted((ROOT / folder).rglob("*.py")):
            text = path.read_text(encoding="utf-8")
            for call in re.findall(loads, text):
                assert "weights_only=True" in call, f"{path}: {call}"
                found += 1
            forbidden = r"allow_pickle=True|\bpickle\.loads?\(|^import (pickle|joblib|dill|shelve|marshal)|yaml\.load\("
            assert not re.search(forbidden, text, flags=re.MULTILINE), path
            for call in re.findall(r"np\.load\([^)]*\)", text):
                assert "allow_pickle" not in call, f"{path}: {call}"  # NumPy refuses pickles by default
    assert found
