"""A result file as markdown tables."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Sequence

from benchmarks.cases import DIRECTIONS, KERNEL, REFERENCE, Case
from benchmarks.results import Results

_SHORT = {"does not fit": "no fit", "too slow": "too slow", "crashed": "crashed", "wrong": "wrong", "failed": "failed"}


def milliseconds(seconds: float) -> str:
    value = 1e3 * seconds
    if value >= 9999.5:
        return f"{seconds:.3g} s"
    return f"{value:.4g}" if value >= 1000 else f"{value:.3g}"


def megabytes(size: float) -> str:
    value = size / 2**20
    return f"{value / 1024:.3g} GB" if value >= 1000 else f"{value:.2g}" if value < 10 else f"{value:.0f}"


def times(factor: float) -> str:
    return f"{factor:.3g}×" if factor < 1000 else f"{factor:.0f}×"


def outcome(entry: dict, contestant: str, direction: str) -> dict:
    """The result of a contestant in a direction; its own status where it never came to run."""
    found = entry["contestants"].get(contestant)
    if found is None:
        return {"status": "absent"}
    if found.get("status", "ok") != "ok":
        return {"status": found["status"], "detail": found.get("detail", "")}
    return found.get(direction, {"status": "absent"})


def seconds(entry: dict, contestant: str, direction: str) -> float | None:
    found = outcome(entry, contestant, direction)
    return found["seconds"] if found.get("status") == "ok" else None


def peak_bytes(entry: dict, contestant: str, direction: str) -> float | None:
    found = outcome(entry, contestant, direction)
    return found.get("peak_bytes") if found.get("status") == "ok" else None


def _cell(entry: dict, contestant: str, direction: str, show: str) -> str:
    found = outcome(entry, contestant, direction)
    status = found.get("status", "absent")
    if status != "ok":
        return _SHORT.get(status, "–")
    if show == "time":
        return milliseconds(found["seconds"])
    return "–" if found.get("peak_bytes") is None else megabytes(found["peak_bytes"])


def _ratio(entry: dict, contestant: str, direction: str) -> str:
    kernel, other = seconds(entry, KERNEL, direction), seconds(entry, contestant, direction)
    return times(other / kernel) if kernel and other else "–"


def series_of(results: Results, op: str | None = None, variant: str | None = None) -> dict[str, list[dict]]:
    """Entries by series, in the order of the file."""
    found: dict[str, list[dict]] = {}
    for entry in results.cases.values():
        case = Case.from_json(entry["case"])
        if (op is None or case.op == op) and (variant is None or case.variant == variant):
            found.setdefault(case.series, []).append(entry)
    return found


def columns_of(entries: Iterable[dict], wanted: Sequence[str] | None = None) -> list[str]:
    """Contestants that ran or tried to, kernel and reference first."""
    names: list[str] = []
    for entry in entries:
        for name, found in entry["contestants"].items():
            if found.get("status") != "absent" and name not in names:
                names.append(name)
    if wanted is not None:
        return [name for name in wanted if name in names]
    first = [name for name in (KERNEL, REFERENCE) if name in names]
    return first + [name for name in names if name not in first]


def series_table(entries: list[dict], wanted: Sequence[str] | None = None, memory: bool = True) -> str:
    """One series: forward / forward+backward in ms, how many times slower than the kernel, peak memory in MB."""
    columns = columns_of(entries, wanted)
    case = Case.from_json(entries[0]["case"])
    head = [", ".join(name for name, _ in case.dims)]
    for name in columns:
        head.append(f"{name} fwd / f+b")
        if name != KERNEL and KERNEL in columns:
            head.append("ratio")
    if memory:
        head.append(f"peak MB f+b: {' / '.join(columns)}")
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    for entry in entries:
        cells = [", ".join(str(size) for size in entry["case"]["dims"].values())]
        for name in columns:
            cells.append(" / ".join(_cell(entry, name, direction, "time") for direction in DIRECTIONS))
            if name != KERNEL and KERNEL in columns:
                cells.append(" / ".join(_ratio(entry, name, direction) for direction in DIRECTIONS))
        if memory:
            cells.append(" / ".join(_cell(entry, name, DIRECTIONS[1], "memory") for name in columns))
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _ended(entry: dict, contestant: str) -> str | None:
    """How forward + backward ended, or the forward that stopped it."""
    forward, both = (outcome(entry, contestant, direction).get("status") for direction in DIRECTIONS)
    return both if both not in (None, "absent") else forward


def lead_table(series: dict[str, list[dict]]) -> str:
    """How many times slower than the kernel each other contestant is: smallest, median and largest ratio over the
    cases of each series, where the smallest stands, and how many cases had no number (memory, time)."""
    lines = [
        "| op | contestant | cases | forward: smallest (where), median, largest "
        "| forward + backward: smallest (where), median, largest | no fit | too slow |",
        "|---|---|---|---|---|---|---|",
    ]
    for name, entries in series.items():
        for contestant in columns_of(entries):
            if contestant == KERNEL:
                continue
            cells, counted = [], 0
            for direction in DIRECTIONS:
                pairs = [(e, seconds(e, KERNEL, direction), seconds(e, contestant, direction)) for e in entries]
                ratios = [(theirs / ours, e) for e, ours, theirs in pairs if ours and theirs]
                if not ratios:
                    cells.append("–")
                    continue
                counted = max(counted, len(ratios))
                least, where = min(ratios, key=lambda pair: pair[0])
                middle = statistics.median(ratio for ratio, _ in ratios)
                most = max(ratio for ratio, _ in ratios)
                size = Case.from_json(where["case"]).size_text
                cells.append(f"{times(least)} ({size}), {times(middle)}, {times(most)}")
            found = [_ended(e, contestant) for e in entries]
            if not counted and not set(found) & {"does not fit", "too slow"}:
                continue
            title = ", ".join(name.split("/")[:2])
            lines.append(
                f"| {title} | {contestant} | {counted} | {cells[0]} | {cells[1]} | {found.count('does not fit')} "
                f"| {found.count('too slow')} |"
            )
    return "\n".join(lines)


def notes(entries: list[dict]) -> list[str]:
    """What a reader of the numbers must know: withheld speeds, absent columns, checks at another size."""
    said: dict[str, list[str]] = {}

    def say(text: str, case: Case) -> None:
        said.setdefault(text, []).append(case.size_text)

    for entry in entries:
        case = Case.from_json(entry["case"])
        if entry.get("fatal"):
            say(f"not measured: {entry['fatal']}", case)
        for name, found in entry["contestants"].items():
            status = found.get("status", "ok")
            if status == "absent":
                say(f"{name}: absent ({found.get('detail', '')})", case)
            elif status == "wrong":
                say(f"{name}: speed withheld, its check failed ({found['check']['detail']})", case)
            elif status in ("failed", "crashed"):
                say(f"{name}: {status} ({found.get('detail', '')})", case)
            size = found.get("check", {}).get("size")
            if size and name == KERNEL:
                say(f"correctness {size}", case)
            for direction in DIRECTIONS:
                result = found.get(direction, {})
                if result.get("status") in ("crashed", "failed", "wrong"):
                    say(f"{name}, {direction}: {result['status']} ({result.get('detail', '')})", case)
    lines = []
    for text, sizes in said.items():
        where = "" if len(sizes) == len(entries) else f" – at {'; '.join(sizes)}"
        lines.append(f"- {text}{where}")
    return lines


def head_line(results: Results) -> str:
    head = results.head
    commits = sorted({f"{e['commit']}{' with changes' if e['dirty'] else ''}" for e in results.cases.values()})
    build = head.get("build", {})
    return (
        f"{head['cpu']}, {head['cores']} cores, {head['threads']} threads, {head['memory_gb']} GB; "
        f"drpm {head['drpm']} ({', '.join(commits)}; {build.get('simd', '?')}), torch {head['torch']}, "
        f"Python {head['python']}. Medians in ms; f+b: forward + backward; ratio: times slower than the kernel."
    )


def render(
    results: Results,
    op: str | None = None,
    variant: str | None = None,
    columns: Sequence[str] | None = None,
    memory: bool = True,
    with_notes: bool = True,
) -> str:
    parts = [head_line(results)]
    for series, entries in series_of(results, op, variant).items():
        parts += [f"### {series.replace('/', ', ')}", series_table(entries, columns, memory)]
        if with_notes and notes(entries):
            parts.append("\n".join(notes(entries)))
    return "\n\n".join(parts) + "\n"
