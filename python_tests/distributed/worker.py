"""One process of test_distributed.py: runs every check with a gloo group, writes what went wrong as JSON."""

import gc
import json
import os
import sys
import traceback
from pathlib import Path

import torch
import torch.distributed as dist
from torch import nn
from torch.distributed.fsdp import fully_shard
from torch.nn.parallel import DistributedDataParallel

import drpm.distributed
import drpm.ops
from drpm.nn import Exponential, RandomPartition, SubsetSelector, advance_temperatures

K, D = 3, 4


class Model(nn.Module):
    """A network that scores elements, and a layer that partitions them with learned importances."""

    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Linear(D, 1, dtype=torch.float64)
        self.partition = RandomPartition(K, tau=Exponential(1.0, 0.5, 4)).double()
        self.select = SubsetSelector(D, tau=Exponential(1.0, 0.5, 4)).double()

    def forward(self, x, seed):  # (B, n, D) -> (B,)
        chosen = self.select(seed=seed).mask
        y = self.partition(self.net(x * chosen).squeeze(-1), seed=seed)
        return (y.assignment * torch.arange(K * x.shape[1], dtype=torch.float64).reshape(K, -1).cos()).sum((-2, -1))


def model():
    torch.manual_seed(7)
    built = Model()
    for parameter in built.parameters():
        nn.init.normal_(parameter, generator=torch.Generator().manual_seed(parameter.numel()))
    return built


def data(rank, step):
    return torch.randn(2, 10, D, dtype=torch.float64, generator=torch.Generator().manual_seed(100 * rank + step))


def train(wrapped, ranks, steps=3):
    """Steps on the mean over `ranks` of their losses; parameters afterwards are what is compared."""
    optimizer = torch.optim.SGD(wrapped.parameters(), lr=0.1)
    for step in range(steps):
        optimizer.zero_grad()
        sum(wrapped(data(rank, step), seed=10 * rank + step).mean() for rank in ranks).div(len(ranks)).backward()
        optimizer.step()
        advance_temperatures(wrapped)


def alone():
    built = model()
    train(built, [0, 1])
    return built


def check_ddp_trains_as_one_process(rank):
    wrapped = DistributedDataParallel(model())
    train(wrapped, [rank])
    for (name, got), want in zip(wrapped.module.state_dict().items(), alone().state_dict().values(), strict=True):
        torch.testing.assert_close(got, want, rtol=1e-12, atol=1e-12, msg=lambda m, name=name: f"{name}: {m}")
    assert wrapped.module.partition.tau == Exponential(1.0, 0.5, 4)(3)


def check_fsdp2_trains_as_one_process(rank):
    built = model()
    mesh = dist.device_mesh.init_device_mesh("cpu", (2,))
    for part in (built.partition, built.select, built):
        fully_shard(part, mesh=mesh)
    train(built, [rank])
    want = alone().state_dict()
    for name, got in built.state_dict().items():
        full = got.full_tensor() if hasattr(got, "full_tensor") else got
        torch.testing.assert_close(full, want[name], rtol=1e-12, atol=1e-12, msg=lambda m, name=name: f"{name}: {m}")
    assert built.partition.temperature.step == 3


def check_fsdp2_from_meta_device_and_checkpoint(rank):
    with torch.device("meta"):
        built = Model()
    mesh = dist.device_mesh.init_device_mesh("cpu", (2,))
    fully_shard(built, mesh=mesh)
    built.to_empty(device="cpu")
    from torch.distributed.checkpoint.state_dict import StateDictOptions, set_model_state_dict

    source = model()
    source.partition.advance(2)
    options = StateDictOptions(full_state_dict=True, broadcast_from_rank0=True)
    set_model_state_dict(built, source.state_dict() if rank == 0 else {}, options=options)
    assert built.partition.temperature.value == source.partition.tau, built.partition.temperature.value
    x = data(0, 0)
    torch.testing.assert_close(built(x, seed=3), source(x, seed=3), rtol=1e-12, atol=1e-12)


def whole_and_part(rank, lengths, batch=(2,), dtype=torch.float64):
    generator = torch.Generator().manual_seed(1)
    scores = torch.randn(*batch, sum(lengths), dtype=dtype, generator=generator)
    start = sum(lengths[:rank])
    return scores, slice(start, start + lengths[rank])


def compare_with_single_process(rank, lengths, **options):
    scores, own = whole_and_part(rank, lengths)
    cost = torch.randn(
        *scores.shape[:-1], K, sum(lengths), dtype=torch.float64, generator=torch.Generator().manual_seed(2)
    )
    omega = torch.tensor([0.5, 0.0, -0.5], dtype=torch.float64)
    given = {"seed": 5} if options.get("noise", True) else {}

    whole_scores, whole_omega = scores.clone().requires_grad_(), omega.clone().requires_grad_()
    want = drpm.ops.random_partition(whole_omega, whole_scores, 0.7, **given, **options)
    ((want.assignment * cost).sum() + want.sizes.square().sum()).backward()

    part, part_omega = scores[..., own].clone().requires_grad_(), omega.clone().requires_grad_()
    got = drpm.distributed.random_partition(part_omega, part, 0.7, **given, **options)
    # each process has its columns of the first term and its share of the second
    loss = (got.assignment * cost[..., own]).sum() + got.sizes.square().sum() / dist.get_world_size()
    loss.backward()
    dist.all_reduce(part_omega.grad)

    assert torch.equal(got.assignment, want.assignment[..., own])
    assert torch.equal(got.labels, want.labels[..., own])
    assert torch.equal(got.sizes, want.sizes) and torch.equal(got.order, want.order)
    torch.testing.assert_close(part.grad, whole_scores.grad[..., own], rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(part_omega.grad, whole_omega.grad, rtol=1e-12, atol=1e-12)


def check_global_partition_of_even_parts(rank):
    compare_with_single_process(rank, [6, 6])


def check_global_partition_of_uneven_parts(rank):
    compare_with_single_process(rank, [9, 4])


def check_global_partition_with_an_empty_part(rank):
    compare_with_single_process(rank, [0, 7])


def check_global_partition_relaxed_and_without_noise(rank):
    compare_with_single_process(rank, [5, 8], hard=False)
    compare_with_single_process(rank, [5, 8], noise=False, conditionals="merged")


def check_global_partition_without_a_seed_is_one_partition(rank):
    torch.manual_seed(rank)  # the processes' own generators differ
    scores, own = whole_and_part(rank, [6, 5], batch=())
    got = drpm.distributed.random_partition(torch.zeros(K, dtype=torch.float64), scores[own], lengths=[6, 5])
    orders = torch.empty(2, 11, dtype=torch.int64)
    dist.all_gather_into_tensor(orders.view(-1), got.order)
    assert torch.equal(orders[0], orders[1])
    labels = drpm.distributed.gather(got.labels)
    assert torch.equal(torch.bincount(labels, minlength=K).double(), got.sizes)


def check_gather_and_its_gradient(rank):
    lengths = [2, 5]
    whole = torch.randn(3, 7, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    own = slice(sum(lengths[:rank]), sum(lengths[: rank + 1]))
    part = whole[:, own].clone().requires_grad_()
    got = drpm.distributed.gather(part, dim=1)
    assert torch.equal(got, whole)
    (got.square().sum() * (rank + 1)).backward()
    torch.testing.assert_close(part.grad, 2 * whole[:, own] * 3)  # 1 + 2: the sum of the processes' losses


def check_ddp_with_a_global_partition_is_large_batch_training(rank):
    """Votes and scores come from a network; W processes with DDP train as one with the whole batch."""

    class Voter(nn.Module):
        def __init__(self):
            super().__init__()
            self.net = nn.Linear(D, K + 1, dtype=torch.float64)

        def forward(self, x, group=False):  # (n, D)
            out = self.net(x)
            votes = drpm.distributed.gather(out[:, :K]) if group else out[:, :K]
            draw = drpm.distributed.random_partition if group else drpm.ops.random_partition
            y = draw(votes.log_softmax(-1).logsumexp(0), out[:, K], 0.8, seed=11)
            return (y.assignment.T * x[:, :K]).sum()

    x = torch.randn(13, D, dtype=torch.float64, generator=torch.Generator().manual_seed(4))
    torch.manual_seed(0)
    single = Voter()
    (single(x) / 2).backward()
    torch.manual_seed(0)
    wrapped = DistributedDataParallel(Voter())
    own = slice(0, 8) if rank == 0 else slice(8, 13)
    wrapped(x[own], group=True).backward()
    torch.testing.assert_close(wrapped.module.net.weight.grad, single.net.weight.grad, rtol=1e-12, atol=1e-12)


def expect(error, message, call):
    try:
        call()
    except error as raised:
        assert message in str(raised), raised
    else:
        raise AssertionError(f"no {error.__name__}")


def check_disagreements_are_refused_on_every_process(rank):
    omega = torch.zeros(K)
    run = drpm.distributed.random_partition
    expect(ValueError, "must agree between processes", lambda: run(omega, torch.zeros(2 + rank, 5)))
    expect(
        ValueError,
        "must agree between processes",
        lambda: run(omega, torch.zeros(5).to((torch.float32, torch.float64)[rank])),
    )
    expect(ValueError, "log_omega must be the same", lambda: run(omega + rank, torch.zeros(5)))
    expect(ValueError, "must agree between processes", lambda: run(torch.zeros(K + rank), torch.zeros(5)))
    expect(ValueError, "lengths must hold one length per process", lambda: run(omega, torch.zeros(5), lengths=[5]))


def main(out: str) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo")
    rank = dist.get_rank()
    results = {}
    for name, check in list(globals().items()):
        if name.startswith("check_"):
            try:
                check(rank)
                results[name] = None
            except Exception:
                results[name] = traceback.format_exc()
            dist.barrier()
    Path(out, f"rank{rank}.json").write_text(json.dumps(results))
    gc.collect()  # models in cycles must not outlive the group: a process aborted at its exit, once in 29 runs
    dist.destroy_process_group()


if __name__ == "__main__":
    os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")
    main(sys.argv[1])
