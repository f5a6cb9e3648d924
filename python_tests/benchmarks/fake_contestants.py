"""Contestants that misbehave, for the tests of the runner; loaded as a plugin by parent and child."""

import os
import time

import torch

from benchmarks.contestants import prepare_reference
from benchmarks.registry import Contestant, add


def _right(problem):
    return prepare_reference(problem)


def _wrong(problem):
    call = prepare_reference(problem)
    return lambda: call() * 1.001


def _wrong_gradient(problem):
    call = prepare_reference(problem)
    return lambda: call().detach() + 0 * call()


def _greedy(problem):
    call = prepare_reference(problem)
    return lambda: call() + torch.ones(2**31)[:1]


def _sleepy(problem):
    call = prepare_reference(problem)

    def run():
        time.sleep(1.0)
        return call()

    return run


def _stuck(problem):
    call = prepare_reference(problem)

    def run():
        out = call()
        if not torch.is_grad_enabled():  # the check passes, then it hangs where no exception ends it
            time.sleep(60)
        return out

    return run


def _dying(problem):
    call = prepare_reference(problem)

    def run():
        if not torch.is_grad_enabled():
            os._exit(3)
        return call()

    return run


def _nan(problem):
    call = prepare_reference(problem)

    def run():
        out = call()
        return out if torch.is_grad_enabled() else out * float("nan")  # right where it is checked

    return run


def _grabbing(problem):
    call = prepare_reference(problem)

    def run():
        torch.set_num_threads(2)  # as packages with a pool of their own do
        return call()

    return run


def _on_one_thread(problem):
    call = prepare_reference(problem)

    def run():
        if torch.get_num_threads() != 1:
            raise RuntimeError(f"{torch.get_num_threads()} threads")
        return call()

    return run


for name, prepare in {
    "right": _right,
    "wrong": _wrong,
    "wrong gradient": _wrong_gradient,
    "nan": _nan,
    "grabbing": _grabbing,
    "on one thread": _on_one_thread,
    "greedy": _greedy,
    "sleepy": _sleepy,
    "stuck": _stuck,
    "dying": _dying,
}.items():
    add("partition", Contestant(name, prepare, optional=True))
add("partition", Contestant("elsewhere", _right, requires=("no_such_module",), optional=True))
