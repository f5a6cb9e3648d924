"""Files that hold something else than they should."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def reading(op: str, path: str | os.PathLike[str], kind: str) -> Iterator[None]:
    """A ValueError that names the file and the reason where what it holds cannot be read.

    Readers of gzip, zip, tar, .npy and torch.save raise nearly anything for damaged files, and name none.
    """
    try:
        yield
    except Exception as error:
        system = isinstance(error, OSError) and error.errno is not None  # gzip's own OSError has no number
        if system or isinstance(error, MemoryError):
            raise
        reason = str(error).splitlines()[0] if str(error) else "it ends too early"
        got = f"{os.fspath(path)} ({type(error).__name__}: {reason})"
        raise ValueError(f"{op}: path must be a whole {kind}, got {got}") from error
