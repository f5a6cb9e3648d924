"""Result files: a head (machine, versions, settings), then one entry per case."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.cases import Case

FORMAT = 1
HARD_FAILURES = ("too slow", "does not fit")


@dataclass
class Results:
    """A result file; saved after every case, so that an interrupted run can go on."""

    path: Path
    head: dict
    cases: dict[str, dict] = field(default_factory=dict)

    @staticmethod
    def load(path: Path) -> Results:
        data = json.loads(path.read_text())
        if data.get("format") != FORMAT:
            raise ValueError(f"{path}: format {data.get('format')}, this version reads {FORMAT}")
        return Results(path, data["head"], {entry["key"]: entry for entry in data["cases"]})

    def merged(self, other: Results) -> Results:
        """The cases of both files, the other's after these; both must come from one machine and one set of versions.

        Raises: ValueError naming what differs.
        """
        for key in ("cpu", "threads", "torch"):
            if self.head[key] != other.head[key]:
                raise ValueError(
                    f"{other.path}: {key} must be {self.head[key]} as in {self.path}, got {other.head[key]}"
                )
        return Results(self.path, self.head, self.cases | other.cases)

    def save(self) -> None:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        scratch = self.path.with_suffix(".partial")
        document = {"format": FORMAT, "head": self.head, "cases": list(self.cases.values())}
        scratch.write_text(json.dumps(document, indent=1) + "\n")
        scratch.replace(self.path)

    def inferred(self, case: Case, contestant: str, direction: str) -> tuple[str, str] | None:
        """What a smaller case of the series already showed: it will not fit or finish here either."""
        for entry in self.cases.values():
            smaller = Case.from_json(entry["case"])
            found = entry["contestants"].get(contestant, {}).get(direction, {})
            if found.get("status") in HARD_FAILURES and not found.get("inferred") and case.at_least(smaller):
                return found["status"], smaller.size_text
        return None
