"""Every experiment by name: the class that the runner runs, and what it contributes to the report."""

import importlib
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from experiments.runner.runner import Experiment


class Entry(NamedTuple):
    """An experiment, imported when it is asked for.

    What a new one needs: experiments/README.md.
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
        "experiments.clustering.experiment:Clustering",
        "experiments.clustering.report:tables",
        "experiments.clustering.report:figures",
    ),
    "multimodal": Entry(
        "experiments.multimodal.experiment:Multimodal",
        "experiments.multimodal.report:tables",
        "experiments.multimodal.report:figures",
    ),
    "multitask": Entry(
        "experiments.multitask.experiment:Multitask",
        "experiments.multitask.report:tables",
        "experiments.multitask.report:figures",
    ),
    "subset_selection": Entry(
        "experiments.subset_selection.experiment:SubsetSelection",
        "experiments.subset_selection.report:tables",
        "experiments.subset_selection.report:figures",
    ),
    "weak_supervision": Entry(
        "experiments.weak_supervision.experiment:WeakSupervision",
        "experiments.weak_supervision.report:tables",
        "experiments.weak_supervision.report:figures",
    ),
}
