"""Tables and figures of docs/experiments/multimodal.md."""

import statistics
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from drpm.training.figures import pyplot, save_figure
from experiments.multimodal.figures import draw_samples
from experiments.multimodal.thesis import ACCURACY, COHERENCE, LIKELIHOOD, PRECISION, RANDOM
from experiments.runner.configuration import read_row, rows
from experiments.runner.records import read_runs, runs_line

_NAME = "multimodal"
_NONE = "_No results yet._"
_POOLED = ("poe", "moe", "mopoe")
_KINDS = ("joint", "split")
_WORDS = ("mnist", "street", "text")
_SETS = ("mnist", "street", "text", "mnist,street", "mnist,text", "street,text", "mnist,street,text")
_SHORT = {"mnist": "M", "street": "S", "text": "T"}
_PICTURED = ("mst_poe_joint", "mst_moe_joint", "mst_mopoe_joint", "mst_mopoe_split", "poly_mopoe", "poly_drpm")
Runs = list[dict[str, Any]]


def tables(results: Path) -> dict[str, Callable[[], str]]:
    return {
        "multimodal classifiers": partial(classifier_table, results),
        "multimodal accuracy": partial(accuracy_table, results),
        "multimodal coherence": partial(coherence_table, results),
        "multimodal random coherence": partial(random_table, results),
        "multimodal likelihood": partial(likelihood_table, results),
        "multimodal precise likelihood": partial(precise_table, results, "mst_"),
        "multimodal precision": partial(precision_table, results),
        "multimodal fidelity": partial(fidelity_table, results, "poly_"),
        "multimodal splits": partial(split_table, results),
        "multimodal PolyMNIST": partial(poly_table, results, "poly_"),
        "multimodal missing": partial(poly_table, results, "missing_"),
        "multimodal beta": partial(poly_table, results, "beta_"),
        "multimodal levels": partial(level_table, results),
        "multimodal patterns": partial(pattern_table, results),
    }


def _spread(values: Iterable[float | None], digits: int = 2) -> str:
    known = [value for value in values if value is not None]
    if not known:
        return "–"
    mean = f"{statistics.mean(known):.{digits}f}"
    return mean if len(known) == 1 else f"{mean} ± {statistics.stdev(known):.{digits}f}"


def _found(results: Path, names: Iterable[str]) -> dict[str, Runs]:
    return {row: runs for row in names if (runs := read_runs(results / row))}


def _with_prefix(results: Path, prefix: str) -> dict[str, Runs]:
    return _found(results, [row for row in rows(_NAME) if row.startswith(prefix)])


def _main(results: Path) -> dict[str, Runs]:
    return _found(results, [f"mst_{pooled}_{kind}" for kind in _KINDS for pooled in _POOLED])


def _others(results: Path) -> dict[str, Runs]:
    return _found(results, ["mst_mmjsd", "mst_mmvaeplus", "mst_drpm"])


def _title(row: str) -> str:
    kinds = {"joint": ", joint", "split": ", 16 + 4"}
    return str(read_row(_NAME, row)["title"]) + kinds.get(row.rpartition("_")[2], "")


def _seeds(runs: Runs) -> str:
    return ", ".join(str(run["seed"]) for run in runs)


def _metric(runs: Runs, *path: str) -> list[Any]:
    """A metric of every run; None where it has none."""
    found = []
    for run in runs:
        value: Any = run["metrics"]
        for key in path:
            value = value.get(key) if isinstance(value, dict) else None
        found.append(value)
    return found


def _table(head: Sequence[str], body: Iterable[Sequence[str]], runs: Iterable[Runs]) -> str:
    lines = [f"| {' | '.join(head)} |", "|---" * len(head) + "|"]
    lines += [f"| {' | '.join(line)} |" for line in body]
    return "\n".join([*lines, "", runs_line([run for some in runs for run in some])])


def _letters(names: str) -> str:
    return "".join(_SHORT.get(name, name) for name in names.split(","))


def _beside(ours: str, thesis: float | None, digits: int = 2) -> str:
    return ours if thesis is None else f"{ours} \\| {thesis:.{digits}f}"


def _with_thesis(
    results: Path, columns: Sequence[str], of: Callable[[Runs, str], str], theirs: dict[str, Any], digits: int = 2
) -> str:
    found = _main(results) | _others(results)
    if not found:
        return _NONE
    body = []
    for row, runs in found.items():
        known = theirs.get(row, (None,) * len(columns))
        cells = [_beside(of(runs, name), value, digits) for name, value in zip(columns, known, strict=True)]
        body.append([_title(row), *cells, _seeds(runs)])
    heads = [name.replace("<", "←") for name in (_pair_head(column) for column in columns)]
    return _table(["ours \\| thesis", *heads, "seeds"], body, found.values())


def _pair_head(column: str) -> str:
    made, arrow, given = column.partition("<")
    return f"{_letters(made)}{arrow}{_letters(given)}" if arrow else _letters(column)


def classifier_table(results: Path) -> str:
    """Give the test accuracies of the classifiers that score."""
    import json

    lines = ["| data | modality | factor | accuracy |", "|---" * 4 + "|"]
    for path in sorted((results / "classifiers").glob("*.json")):
        record = json.loads(path.read_text(encoding="utf-8"))
        for name, factors in record["accuracy"].items():
            lines += [f"| {record['data']} | {name} | {factor} | {value:.3f} |" for factor, value in factors.items()]
    return "\n".join(lines) if len(lines) > 2 else _NONE


def accuracy_table(results: Path) -> str:
    """Give linear classification of 500 representations of every subset (Tables 3.1 and 4.2)."""
    return _with_thesis(
        results,
        _SETS,
        lambda runs, name: _spread(value and value[0] for value in _metric(runs, "accuracy", name, "digit")),
        ACCURACY,
    )


_PAIRS = tuple(
    f"{made}<{given}" for made in _WORDS for given in _SETS[:-1] if made not in given.split(",")
)  # generated < given


def coherence_table(results: Path) -> str:
    """Give conditional coherence (Tables 3.3 and 4.4)."""

    def of(runs: Runs, pair: str) -> str:
        made, _, given = pair.partition("<")
        return _spread(_metric(runs, "coherence", given, made, "digit"))

    return _with_thesis(results, _PAIRS, of, COHERENCE)


def random_table(results: Path) -> str:
    """Give random coherence (Tables 3.5 and 4.6)."""
    return _with_thesis(results, ("all",), lambda runs, _: _spread(_metric(runs, "random_coherence", "digit")), RANDOM)


def likelihood_table(results: Path) -> str:
    """Give log-likelihoods with 12 samples (Tables 3.6 and 4.7), and below them those grouped as released."""
    found = _main(results) | _others(results)
    if not found:
        return _NONE
    body = []
    for row, runs in found.items():
        known = LIKELIHOOD.get(row, (None,) * len(_SETS))
        right = [_spread((value and value[0] for value in _metric(runs, "log_likelihood", s)), 0) for s in _SETS]
        grouped = [_spread(_metric(runs, "released_log_likelihood", s), 0) for s in _SETS]
        cells = [_beside(ours, value and -value, 0) for ours, value in zip(right, known, strict=True)]
        body.append([_title(row), *cells, _seeds(runs)])
        body.append([f"{_title(row)}, grouped as released", *grouped, _seeds(runs)])
    return _table(["ours \\| thesis", *(_letters(s) for s in _SETS), "seeds"], body, found.values())


def precise_table(results: Path, prefix: str) -> str:
    """Give log-likelihoods with 512 samples, and their standard errors over tuples, of seed 0."""
    found = _with_prefix(results, prefix)
    if not found:
        return _NONE
    columns = list(next(iter(found.values()))[0]["metrics"].get("precise_log_likelihood", {}))
    body = []
    for row, runs in found.items():
        values = [_metric(runs[:1], "precise_log_likelihood", name)[0] for name in columns]
        body.append([_title(row), *("–" if v is None else f"{v[0]:.1f} ± {v[1]:.1f}" for v in values)])
    return _table(["row", *(_letters(name) for name in columns)], body, found.values())


def precision_table(results: Path) -> str:
    """Give the average precision of generated images (Tables 3.8 and 4.9); ours from the full set and single ones."""
    columns = tuple(f"{made}<{given}" for made in ("mnist", "street") for given in (*_WORDS, "prior") if made != given)

    def of(runs: Runs, pair: str) -> str:
        made, _, given = pair.partition("<")
        return _spread(_metric(runs, "fidelity", given, made, "average_precision"))

    return _with_thesis(results, columns, of, PRECISION)


def fidelity_table(results: Path, prefix: str) -> str:
    """Give the fidelity scores, means over image modalities, from the full set, single modalities and the prior."""
    found = _with_prefix(results, prefix)
    found = {row: runs for row, runs in found.items() if "fidelity" in runs[0]["metrics"]}
    if not found:
        return _NONE
    scores = ("average_precision", "density", "coverage", "frechet")
    body = []
    for number, (row, runs) in enumerate(found.items()):
        kept = runs[0]["metrics"]["fidelity"]
        conditions = {"full set": [max(kept, key=lambda name: name.count(","))], "prior": ["prior"]}
        conditions["single"] = [name for name in kept if "," not in name and name not in ("prior", "real")]
        if number == 0:
            conditions = {"real": ["real"]} | conditions
        for name, keys in conditions.items():
            cells = []
            for score in scores:
                each = [
                    statistics.mean(of[score] for key in keys for of in run["metrics"]["fidelity"][key].values())
                    for run in runs
                ]
                cells.append(_spread(each))
            body.append(["held-out real" if name == "real" else _title(row), name, *cells])
    return _table(["row", "from", "average precision", "density", "coverage", "Fréchet"], body, found.values())


def by_size(run: dict[str, Any], what: str, factor: str = "digit") -> dict[int, float]:
    """Accuracy, coherence or likelihood, averaged over subsets of a size (Fig. 3.5)."""
    values: dict[int, list[float]] = {}
    for subset, found in run["metrics"].get(what, {}).items():
        if what == "accuracy":
            value = found[factor][0]
        elif what == "coherence":
            value = statistics.mean(of[factor] for of in found.values())
        else:
            value = found[0]
        values.setdefault(subset.count(",") + 1, []).append(value)
    return {size: statistics.mean(found) for size, found in sorted(values.items())}


def poly_table(results: Path, prefix: str) -> str:
    """Give accuracy, coherence and likelihood by number of given modalities."""
    found = _with_prefix(results, prefix)
    if not found:
        return _NONE
    body = []
    for row, runs in found.items():
        cells = []
        for what, sizes, digits in (
            ("accuracy", (1, 3, 5), 2),
            ("coherence", (1, 2, 3, 4), 2),
            ("log_likelihood", (1, 5), 0),
        ):
            for size in sizes:
                cells.append(_spread((by_size(run, what).get(size) for run in runs), digits))
        beta = f"{runs[0]['config']['beta']:g}"
        change = _spread(_metric(runs, "flatness"))
        random = _spread(_metric(runs, "random_coherence", "digit"))
        body.append([f"`{row}`", _title(row), beta, *cells, random, change, _seeds(runs)])
    heads = ["accuracy 1", "3", "5", "coherence 1", "2", "3", "4", "log p 1", "5", "random", "last quarter", "seeds"]
    return _table(["row", "", "β", *heads], body, found.values())


def split_table(results: Path) -> str:
    """Give what the size of the shared subspace changes (Fig. 4.6), beside DRPM, which is not told."""
    names = [f"mst_mopoe_shared{size}" for size in (4, 8, 12)] + ["mst_mopoe_split", "mst_mopoe_joint", "mst_drpm"]
    found = _found(results, names)
    if not found:
        return _NONE
    body = []
    for row, runs in found.items():
        config = runs[0]["config"]
        size = "learned" if config["sharing"] != "none" else str(config["shared"])
        cells = [
            _spread(statistics.mean(by_size(run, what).values()) for run in runs) for what in ("accuracy", "coherence")
        ]
        likelihood = _spread((by_size(run, "log_likelihood").get(3) for run in runs), 0)
        random = _spread(_metric(runs, "random_coherence", "digit"))
        body.append([_title(row), size, *cells, random, likelihood, _seeds(runs)])
    heads = ["row", "d_s of 20", "accuracy", "coherence", "random coherence", "log p(X) from all", "seeds"]
    return _table(heads, body, found.values())


def level_table(results: Path) -> str:
    """Give the accuracy of every factor in each part of the latent variables on Levels."""
    found = _with_prefix(results, "levels_")
    if not found:
        return _NONE
    body = []
    for row, runs in found.items():
        for part in runs[0]["metrics"]["parts"]:
            size = _spread(_metric(runs, "patterns", part), 1)
            cells = [_spread(_metric(runs, "parts", part, factor)) for factor in ("digit", "hue", "slant")]
            body.append([_title(row), part.replace("|", "\\|"), size, *cells, _seeds(runs)])
    return _table(["row", "part", "dimensions", "digit", "hue", "slant", "seeds"], body, found.values())


def pattern_table(results: Path) -> str:
    """Give the learned number of dimensions of every pattern, of all rows that learn one."""
    found = {row: runs for row, runs in _with_prefix(results, "").items() if "patterns" in runs[0]["metrics"]}
    if not found:
        return _NONE
    body = []
    for row, runs in found.items():
        sizes = {name: _spread(_metric(runs, "patterns", name), 1) for name in runs[0]["metrics"]["patterns"]}
        shown = ", ".join(
            f"`{name}`: {size}".replace("|", "\\|") for name, size in sizes.items() if size not in ("0.0", "0.0 ± 0.0")
        )
        body.append([f"`{row}`", _title(row), shown, _seeds(runs)])
    return _table(["row", "", "dimensions of each pattern", "seeds"], body, found.values())


def figures(results: Path, docs: Path) -> list[Path]:
    """Draw Fig. 3.5, 3.8 and 4.6, and the samples of the runs that kept theirs (Fig. 3.3-3.7, 4.4)."""
    written = []
    poly = _with_prefix(results, "poly_")
    if poly:
        written.append(docs / "figures" / "multimodal_by_size.png")
        _draw_by_size(poly, written[-1])
    betas = _with_prefix(results, "beta_")
    if betas:
        written.append(docs / "figures" / "multimodal_beta.png")
        _draw_betas(betas, written[-1])
    for row in _PICTURED:
        kept = results / row / "pictures_seed0.npz"
        if kept.exists():
            with np.load(kept) as content:
                pictures = dict(content)
            for source in ("data", "prior"):
                written.append(docs / "figures" / f"multimodal_{row}_{source}.png")
                draw_samples(pictures, written[-1], source)
    return written


_PANELS = (
    ("accuracy", "accuracy of 500 representations"),
    ("coherence", "coherence"),
    ("log_likelihood", "log p(X), nats"),
)


def _draw_by_size(found: dict[str, Runs], path: Path) -> None:
    figure, axes = pyplot().subplots(1, 3, figsize=(10.5, 3.4), layout="constrained")
    for axis, (what, title) in zip(axes, _PANELS, strict=True):
        for number, (row, runs) in enumerate(found.items()):
            each = [by_size(run, what) for run in runs]
            if each[0]:
                mean = [statistics.mean(of[size] for of in each) for size in each[0]]
                axis.plot(list(each[0]), mean, "o-", color=f"C{number}", markersize=3, label=_title(row))
        axis.set_xlabel("given modalities")
        axis.set_title(title, fontsize=10, loc="left")
        axis.grid(alpha=0.3)
    axes[0].legend(frameon=False, fontsize=7)
    save_figure(figure, path, dpi=120)


def _draw_betas(found: dict[str, Runs], path: Path) -> None:
    figure, axes = pyplot().subplots(1, 3, figsize=(10.5, 3.2), layout="constrained")
    for axis, (what, title) in zip(axes, _PANELS, strict=True):
        for number, pooled in enumerate(_POOLED):
            kept = [runs for row, runs in found.items() if row.endswith(f"_{pooled}")]
            points = sorted((runs[0]["config"]["beta"], max(by_size(runs[0], what).items())[1]) for runs in kept)
            if points:
                x, y = zip(*points, strict=True)
                axis.semilogx(x, y, "o-", color=f"C{number}", markersize=3, label=pooled)
        axis.set_xlabel("β")
        axis.set_title(title, fontsize=10, loc="left")
        axis.grid(alpha=0.3)
    axes[0].legend(frameon=False, fontsize=8)
    save_figure(figure, path, dpi=120)
