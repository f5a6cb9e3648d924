"""The log of a run."""

import contextlib
import io
import json
import math
import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from drpm.training.loop import Trainable


class Log:
    """log.jsonl, one line for every `every` steps, and TensorBoard; a resumed run continues both.

    A line depends on the steps alone, so an interrupted and resumed run ends with the same file, byte for byte.
    `pending` (values of steps that are in no line yet) and `size` (bytes on disk) belong into the checkpoint.

    Args:
        trained: names itself, its phases and its number of steps.
        folder: of the run.
        every: steps per line; None: no log, and values are only checked.
        tensorboard: also write its events, where it is installed.
    """

    def __init__(self, trained: "Trainable", folder: Path, every: int | None, tensorboard: bool) -> None:
        self.trained, self.folder, self.every, self.tensorboard = trained, folder, every, tensorboard
        self.pending: list[dict[str, float]] = []
        self.size = 0
        self._path = folder / "log.jsonl"
        self._file: io.TextIOWrapper | None = None
        self._board: Any = None

    @contextlib.contextmanager
    def opened(self, index: int, enabled: bool) -> Iterator["Log"]:
        """Open it for the steps from `index` on; without `enabled`, on all processes but one, nothing is written."""
        if enabled and self.every is not None:
            self._path.touch()
            os.truncate(self._path, self.size)  # lines after the checkpoint are made again
            self._file = self._path.open("a", encoding="utf-8")
            if self.tensorboard:
                with contextlib.suppress(ImportError):
                    from torch.utils.tensorboard import SummaryWriter

                    self._board = SummaryWriter(str(self.folder / "tensorboard"), purge_step=index + 1)
        try:
            yield self
        finally:
            for opened in (self._file, self._board):
                if opened is not None:
                    opened.close()
            self._file = self._board = None

    def add(self, index: int, values: dict[str, float]) -> None:
        """Note the values of the step before `index`.

        Raises: FloatingPointError when one is not finite.
        """
        if not all(math.isfinite(value) for value in values.values()):
            raise FloatingPointError(f"{self.trained.name}: diverged at {self.trained.unit} {index}, {values}")
        if self.every is None:
            return
        if self.pending and self.pending[0].keys() != values.keys():  # another phase
            self._write(index - 1)
        self.pending.append({name: float(value) for name, value in values.items()})
        if index % self.every == 0 or index == self.trained.steps:
            self._write(index)

    def _write(self, index: int) -> None:
        line = {name: sum(values[name] for values in self.pending) / len(self.pending) for name in self.pending[0]}
        self.pending.clear()
        phase = self.trained.phase(index - 1)
        if self._file is not None:
            self._file.write(json.dumps({"step": index, "phase": phase, **line}) + "\n")
        if self._board is not None:
            for name, value in line.items():
                self._board.add_scalar(f"{phase}/{name}", value, index)

    def flush(self) -> None:
        """Bring it to disk."""
        if self._file is not None:
            self._file.flush()
            os.fsync(self._file.fileno())
            self.size = self._path.stat().st_size
        if self._board is not None:
            self._board.flush()
