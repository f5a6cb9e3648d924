"""matplotlib without a display, and picture files."""

from pathlib import Path
from typing import Any


def pyplot() -> Any:
    """Give matplotlib.pyplot, imported when a picture is drawn: the package does without it."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as module

    return module


def save_figure(figure: Any, path: Path, **options: Any) -> None:
    """Write a figure, with its folder, and close it. `options`: of savefig."""
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, **options)
    pyplot().close(figure)
