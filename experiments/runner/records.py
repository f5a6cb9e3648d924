"""Result files, as the tables read them."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any


def origin_line(result: dict[str, Any]) -> str:
    """What `provenance` put into a result, as a line of text under its table."""
    machine, versions, commit = result["machine"], result["versions"], result["commit"]
    changed = " with changes" if commit.endswith("-dirty") else ""
    return (
        f"{machine['processor']}, {machine['threads']} thread(s); torch {versions['torch']}, drpm {versions['drpm']}, "
        f"Python {versions['python']}, commit {commit[:12]}{changed}."
    )


def runs_line(runs: Sequence[dict[str, Any]]) -> str:
    """What made the runs of a table, as the line of text under it."""
    first = runs[0]
    minutes = max(run["processor_seconds"] for run in runs) / 60
    commits = {run["commit"][:12] + (" with changes" if run["commit"].endswith("-dirty") else "") for run in runs}
    machine = f"{first['machine']['processor']}, {first['machine']['threads']} thread(s) of a shared machine"
    return (
        f"Mean ± standard deviation over seeds. {machine}, up to {minutes:.1f} minutes of processor time a run; "
        f"torch {first['versions']['torch']}, commit {', '.join(sorted(commits))}."
    )


def read_runs(folder: Path) -> list[dict[str, Any]]:
    """Give the results of a row's folder, by seed."""
    runs = [json.loads(path.read_text(encoding="utf-8")) for path in folder.glob("seed*.json")]
    return sorted(runs, key=lambda run: run["seed"])
