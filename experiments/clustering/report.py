"""Tables and figures of docs/experiments/clustering.md."""

import statistics
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from experiments.clustering.whole_report import whole_table
from experiments.demo.report import SCORES, mean_and_error, mean_and_spread
from experiments.runner.configuration import read_row
from experiments.runner.records import read_runs, runs_line

_METHODS = ("gmm", "latent_gmm", "vade", "drpm_bound", "drpm_exact")
_THESIS = {  # Table 5.1, means of five seeds: ARI, NMI, ACC
    "mnist": {
        "gmm": (0.22, 0.32, 0.41),
        "latent_gmm": (0.83, 0.86, 0.88),
        "vade": (0.76, 0.84, 0.82),
        "drpm_bound": (0.88, 0.89, 0.94),
    },
    "fashion_mnist": {
        "gmm": (0.33, 0.49, 0.44),
        "latent_gmm": (0.47, 0.60, 0.62),
        "vade": (0.40, 0.56, 0.56),
        "drpm_bound": (0.51, 0.64, 0.65),
    },
}
_COLUMNS = {"partition": "partition", "batches": "partition of each batch", "responsibilities": "responsibilities"}
_TABLES = {"penbased": "penbased", "satimage": "satimage"}
_TABLE_METHODS = ("kmeans", "gmm", "latent_gmm", "vade", "drpm_equal", "drpm_votes", "drpm_odds")
_ABLATIONS = {
    "mnist_drpm_bound": "conditionals: merged, KL: bound (as in the thesis)",
    "mnist_ablation_exact_bound": "conditionals: exact, KL: bound",
    "mnist_drpm_exact": "conditionals: exact, KL: exact",
    "mnist_ablation_noise": "the same, 8 random partitions a step, straight-through",
    "penbased_ablation_merged_bound": "conditionals: merged, KL: bound (as in the thesis)",
    "penbased_ablation_exact_bound": "conditionals: exact, KL: bound",
    "penbased_drpm_votes": "conditionals: exact, KL: exact",
    "penbased_ablation_noise_straight_through": "the same, 8 random partitions a step, straight-through",
    "penbased_ablation_noise_leave_one_out": "the same, 8 random partitions a step, leave-one-out",
    "penbased_ablation_marginals": "the same, exact marginals, no partitions drawn",
}
_SCALE = ("mnist_views_kmeans", "mnist_views_gmm", "mnist_views_drpm")
_NOTHING = "_No results yet._"


def tables(results: Path) -> dict[str, Callable[[], str]]:
    """Give what makes each block of the page."""
    found: dict[str, Callable[[], str]] = {f"clustering {data}": partial(table, results, data) for data in _THESIS}
    found["clustering comparison"] = partial(comparison, results)
    found["clustering pre-training"] = partial(pretraining, results)
    found["clustering unequal classes"] = partial(unequal_classes, results)
    found["clustering at scale"] = partial(at_scale, results)
    found["clustering ablations"] = partial(ablations, results)
    found["clustering whole model"] = partial(whole_table, results)
    return found


def _read(results: Path, rows: Any) -> dict[str, list[dict[str, Any]]]:
    found = {row: read_runs(results / row) for row in rows}
    return {row: runs for row, runs in found.items() if runs}


def _scores(runs: list[dict[str, Any]], part: str, column: str) -> list[str]:
    return [mean_and_spread([run["metrics"][part][column][score] for run in runs]) for score in SCORES]


def _seeds(runs: list[dict[str, Any]]) -> str:
    return ", ".join(str(run["seed"]) for run in runs)


def _origin(found: dict[str, list[dict[str, Any]]]) -> str:
    return runs_line([run for runs in found.values() for run in runs])


def table(results: Path, data: str) -> str:
    """Give the test scores of every method, mean and spread over seeds, beside the thesis."""
    found = _read(results, [f"{data}_{method}" for method in _METHODS])
    if not found:
        return _NOTHING
    names = " | ".join(name.upper() for name in SCORES)
    thesis_names = " | ".join(f"{name.upper()}, thesis" for name in SCORES)
    lines = [f"| test set | labels from | {names} | {thesis_names} | seeds |", "|---" * 9 + "|"]
    for row, runs in found.items():
        title = read_row("clustering", row)["title"]
        values = _THESIS[data].get(row.removeprefix(f"{data}_"), ())
        thesis = " | ".join(f"{value:.2f}" for value in values) or "– | – | –"
        for part, name in (("test", title), ("initialisation", f"{title}: initialisation alone")):
            for column, words in _COLUMNS.items():
                if column in runs[0]["metrics"].get(part, {}):
                    scores = " | ".join(_scores(runs, part, column))
                    lines.append(f"| {name} | {words} | {scores} | {thesis} | {_seeds(runs)} |")
                    thesis = "– | – | –"
    starts: dict[int, set[str]] = {}
    for runs in found.values():
        for run in runs:
            if "start" in run["metrics"]:
                starts.setdefault(run["seed"], set()).add(run["metrics"]["start"])
    shared = all(len(digests) == 1 for digests in starts.values())
    words = "the same weights and mixture" if shared else "not the same weights and mixture, as their digests show"
    return "\n".join([*lines, "", f"{_origin(found)} All methods of a seed but GMM start from {words}."])


def comparison(results: Path) -> str:
    """Give differences between methods on the test set, paired over the seeds that both have."""
    pairs = (
        *(
            (drpm, column, baseline, "responsibilities")
            for baseline in ("latent_gmm", "vade")
            for drpm in ("drpm_bound", "drpm_exact")
            for column in ("partition", "responsibilities")
        ),
        ("drpm_exact", "partition", "drpm_bound", "partition"),
        ("drpm_exact", "responsibilities", "drpm_bound", "responsibilities"),
    )
    lines = ["| data | difference | ARI | NMI | ACC | seeds |", "|---" * 6 + "|"]
    for data in _THESIS:
        found = _read(results, [f"{data}_{method}" for method in _METHODS])
        for first, column, second, other in pairs:
            by_seed = [{run["seed"]: run for run in found.get(f"{data}_{name}", [])} for name in (first, second)]
            seeds = sorted(by_seed[0].keys() & by_seed[1].keys())
            if len(seeds) < 2:
                continue
            titles = [read_row("clustering", f"{data}_{name}")["title"] for name in (first, second)]
            cells = []
            for score in SCORES:
                differences = [
                    by_seed[0][seed]["metrics"]["test"][column][score]
                    - by_seed[1][seed]["metrics"]["test"][other][score]
                    for seed in seeds
                ]
                cells.append(mean_and_error(differences))
            words = f"{titles[0]} ({column}) − {titles[1]} ({other})"
            lines.append(f"| {data.replace('_', '-')} | {words} | {' | '.join(cells)} | {', '.join(map(str, seeds))} |")
    return "\n".join([*lines, "", "Mean ± standard error, paired; t is their ratio."]) if len(lines) > 2 else _NOTHING


def pretraining(results: Path) -> str:
    """Give the test ARI after a short pre-training (rows `*_short_*`) beside that after the usual one."""
    lines = [
        "| data | epochs of pre-training | Latent GMM | VaDE | DRPM-VC: initialisation alone | thesis' bound | "
        "exact KL | exact KL − bound | seeds |",
        "|---" * 9 + "|",
    ]
    used: dict[str, list[dict[str, Any]]] = {}
    for data in _THESIS:
        for infix in ("short_", ""):
            found = {method: read_runs(results / f"{data}_{infix}{method}") for method in _METHODS[1:]}
            if not all(found.values()):
                continue
            used |= {f"{data}_{infix}{method}": runs for method, runs in found.items()}

            def scores(method: str, part: str, column: str, found: dict[str, Any] = found) -> dict[int, float]:
                return {run["seed"]: run["metrics"][part][column]["ari"] for run in found[method]}

            bound, exact = (scores(method, "test", "partition") for method in ("drpm_bound", "drpm_exact"))
            cells = [
                scores("latent_gmm", "test", "responsibilities"),
                scores("vade", "test", "responsibilities"),
                scores("drpm_exact", "initialisation", "partition"),
                bound,
                exact,
            ]
            seeds = sorted(bound.keys() & exact.keys())
            gain = mean_and_error([exact[seed] - bound[seed] for seed in seeds]) if len(seeds) > 1 else "–"
            epochs = found["latent_gmm"][0]["config"]["pretrain_epochs"]
            means = " | ".join(mean_and_spread(list(cell.values())) for cell in cells)
            words = f"{data.replace('_', '-')} | {epochs} | {means} | {gain}"
            lines.append(f"| {words} | {', '.join(map(str, seeds))} |")
    return "\n".join([*lines, "", f"{_origin(used)} ARI; DRPM-VC: of the partition."]) if used else _NOTHING


def unequal_classes(results: Path) -> str:
    """Give the scores of the tables, with what the sizes became."""
    lines = [
        "| table | method | labels from | ARI | NMI | ACC | sizes of the subsets, seed 0 | seeds |",
        "|---" * 8 + "|",
    ]
    used: dict[str, list[dict[str, Any]]] = {}
    for data, name in _TABLES.items():
        found = _read(results, [f"{data}_{method}" for method in _TABLE_METHODS])
        used |= found
        for row, runs in found.items():
            title = read_row("clustering", row)["title"]
            for column in _COLUMNS:
                if column not in runs[0]["metrics"]["test"] or column == "batches":
                    continue
                sizes = "–"
                if "curve" in runs[0]["metrics"]:
                    sizes = ", ".join(map(str, sorted(runs[0]["metrics"]["curve"][-1]["sizes"][column])))
                scores = " | ".join(_scores(runs, "test", column))
                lines.append(f"| {name} | {title} | {_COLUMNS[column]} | {scores} | {sizes} | {_seeds(runs)} |")
        if found:
            every = [run for runs in found.values() for run in runs]
            classes: list[int] = next((r["metrics"]["class_sizes"] for r in every if "curve" in r["metrics"]), [])
            lines.append(f"| {name} | _the classes_ | – | 1 | 1 | 1 | {', '.join(map(str, sorted(classes)))} | – |")
    return "\n".join([*lines, "", _origin(used)]) if used else _NOTHING


def ablations(results: Path) -> str:
    """Give the scores of variants of DRPM-VC."""
    found = _read(results, _ABLATIONS)
    if not found:
        return _NOTHING
    lines = [
        "| data | DRPM-VC | ARI, partition | NMI, partition | ACC, partition | ARI, responsibilities | "
        "processor seconds | seeds |",
        "|---" * 8 + "|",
    ]
    started = set()
    for row, runs in found.items():
        data = row.split("_")[0]
        if data not in started:
            started.add(data)
            start = _scores(runs, "initialisation", "partition")
            other = _scores(runs, "initialisation", "responsibilities")[0]
            lines.append(f"| {data} | initialisation alone | {' | '.join(start)} | {other} | – | {_seeds(runs)} |")
        scores = [*_scores(runs, "test", "partition"), _scores(runs, "test", "responsibilities")[0]]
        seconds = statistics.mean(run["processor_seconds"] for run in runs)
        lines.append(f"| {data} | {_ABLATIONS[row]} | {' | '.join(scores)} | {seconds:.0f} | {_seeds(runs)} |")
    return "\n".join([*lines, "", _origin(found)])


def at_scale(results: Path) -> str:
    """Give the scores of clustering 140,000 elements as one partition, time and memory."""
    found = _read(results, _SCALE)
    if not found:
        return _NOTHING
    lines = ["| 140,000 elements | labels from | ARI | NMI | ACC | seeds |", "|---" * 6 + "|"]
    for row, runs in found.items():
        title = read_row("clustering", row)["title"]
        for part, name in (("test", title), ("initialisation", f"{title}: initialisation alone")):
            for column, words in _COLUMNS.items():
                if column in runs[0]["metrics"].get(part, {}):
                    lines.append(f"| {name} | {words} | {' | '.join(_scores(runs, part, column))} | {_seeds(runs)} |")
    for runs in (found.get("mnist_views_drpm", []),):
        for run in runs[:1]:
            elements = sum(run["metrics"]["class_sizes"])
            lines += [
                "",
                f"One step over all {elements:,} elements is one partition. Processor time of the run "
                f"{run['processor_seconds']:.0f} s for {run['config']['epochs']} such steps and the phases before "
                f"them, peak memory {run['peak_memory_mb'] / 1024:.1f} GB of the whole process. A dense permutation "
                f"matrix in float32 would take {4 * elements**2 / 2**30:.0f} GB.",
            ]
    return "\n".join([*lines, "", _origin(found)])


def figures(results: Path, docs: Path) -> list[Path]:
    """Draw curves over the epochs of training, learned sizes, and the pictures of the runs that kept them."""
    from experiments.clustering.figures import draw_curves, draw_latent_space, draw_partition, draw_sizes

    written = []
    folder = docs / "figures"
    for data in _THESIS:
        found = _read(results, [f"{data}_{method}" for method in _METHODS])
        curves = {row: runs for row, runs in found.items() if "curve" in runs[0]["metrics"]}
        if curves:
            named = {read_row("clustering", row)["title"]: runs for row, runs in curves.items()}
            draw_curves(data.replace("_", "-"), named, folder / f"clustering_{data}.png")
            written.append(folder / f"clustering_{data}.png")
        for row in (f"{data}_drpm_bound", f"{data}_drpm_exact"):
            kept = results / row / "pictures_seed0.npz"
            if kept.exists():
                with np.load(kept) as file:
                    content = dict(file)
                pairs = ((draw_partition, "partition"), (draw_latent_space, "latent"))
                for draw, name in pairs:
                    draw(content, folder / f"clustering_{row}_{name}.png")
                    written.append(folder / f"clustering_{row}_{name}.png")
    rows = ("mnist_drpm_bound", "mnist_drpm_exact", "satimage_drpm_votes", "satimage_drpm_odds")
    sized = _read(results, rows)
    if sized:
        path = folder / "clustering_sizes.png"
        first = {
            f"{row.split('_')[0]}: {read_row('clustering', row)['title'].removeprefix('DRPM-VC, ')}": runs[0]
            for row, runs in sized.items()
        }
        draw_sizes(first, path)
        written.append(path)
    return written
