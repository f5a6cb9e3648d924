"""Ctrl-C and SIGTERM, put off until the work is saved."""

import contextlib
import signal
import sys
from collections.abc import Callable, Iterator


class Interrupted(Exception):
    """The run was stopped and its checkpoint is written."""


@contextlib.contextmanager
def deferred_interrupt(unit: str = "step") -> Iterator[Callable[[], bool]]:
    """Turn the first Ctrl-C or SIGTERM into a request to stop after the step; the second stops at once.

    Yields what tells whether a stop was asked for.
    """
    requests: list[int] = []

    def handler(number: int, frame: object) -> None:
        if requests:
            raise KeyboardInterrupt
        requests.append(number)
        print(f"\nStopping after this {unit} (Ctrl-C again: at once) ...", file=sys.stderr)

    numbers = (signal.SIGINT, signal.SIGTERM)
    try:
        previous = [signal.signal(number, handler) for number in numbers]
    except ValueError:  # not the main thread: signals are somebody else's
        yield lambda: False
        return
    try:
        yield lambda: bool(requests)
    finally:
        for number, old in zip(numbers, previous, strict=True):
            signal.signal(number, old)
