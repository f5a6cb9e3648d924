"""Every experiment by name: the class that the runner runs, and what it contributes to the report."""

import importlib
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from drpm.experiments.runner import Experiment


class Entry(NamedTuple):
    """An experiment, imported when it is asked for.

    A new one needs a module with the class, its tables and its pictures, a folder of rows in configs/, and a line here.
    """

    kind: str  # module:class
    tables: str  # module:function; folder of results -> {block of a page: what makes it}
    figures: str | None = None  # module:function; folder of results, folder of docs -> written files

    def load(self) -> type[Experiment]:
        return _attribute(self.kind)

    def load_tables(self) -> Callable[[Path], dict[str, Callable[[], str]]]:
        return _attribute(self.tables)

    def load_figures(self) -> Callable[[Path, Path], list[Path]]:
        return _attribute(self.figures) if self.figures else lambda results, docs: []


def _attribute(path: str):  # type: ignore[no-untyped-def]
    module, _, name = path.partition(":")
    return getattr(importlib.import_module(module), name)


EXPERIMENTS: dict[str, Entry] = {
    "clustering": Entry(
        "drpm.experiments.clustering:Clustering",
        "drpm.experiments.clustering_report:tables",
        "drpm.experiments.clustering_report:figures",
    ),
    "multitask": Entry(
        "drpm.experiments.multitask:Multitask",
        "drpm.experiments.multitask_report:tables",
        "drpm.experiments.multitask_report:figures",
    ),
    "weak_supervision": Entry(
        "drpm.experiments.weak_supervision:WeakSupervision",
        "drpm.experiments.weak_supervision_report:tables",
        "drpm.experiments.weak_supervision_report:figures",
    ),
}
