"""The result of `make mutate-cuda` as it stands in the tree: a summary, and docs/cuda_mutants.md from it."""

from __future__ import annotations

import json
from collections import Counter
from typing import Any

from check import ROOT, commit
from mutants import Mutant

SUMMARY = ROOT / "results" / "cuda" / "mutants.json"
Found = tuple[Mutant, dict[str, str], dict[str, str]]  # the mutant, its result, the reason why it survives (or {})

HEAD = """# CUDA kernels: which faults the tests notice

Written by `make -s mutate-cuda ARGS=--report > docs/cuda_mutants.md` (commit {commit}) from what `make mutate-cuda` has
found. A mutant drops one barrier, moves one bound (either way) or one index by one, or lets every thread do what one
does. The C++ drivers of `make test-cuda` run with it on the CPU (docs/cuda.md), in three thread orders and under three
sanitizer settings, until a check fails.

**{noticed} of {known} mutants are noticed, {share}** ({all} exist). Of the {left} others, {same} cannot show in any
run, and {choice} are another right way to the same result: other rounding, other nodes, other work; judged one by one,
the reasons are below; these met the thread orders and AddressSanitizer. **Of the {broken} that break something
{of_broken} are noticed.**
"""


def write_summary(total: int, known: list[Found]) -> None:
    """Counts, and every survivor with its reason; `total`: how many mutants there are."""
    groups: dict[str, dict[str, list[int]]] = {"rules": {}, "files": {}}
    for mutant, result, _ in known:
        for group, name in (("rules", mutant.rule), ("files", mutant.file)):
            counts = groups[group].setdefault(name, [0, 0])
            counts[0] += 1
            counts[1] += bool(result["noticed"])
    stages = Counter(result["noticed"].partition(": ")[2] or "nothing" for _, result, _ in known)
    survivors = [
        {"where": mutant.where(), "rule": mutant.rule, "source": mutant.source, **reason}
        for mutant, _, reason in sorted(known, key=lambda found: (found[0].file, found[0].line))
        if reason
    ]
    fields: dict[str, Any] = {"commit": commit(), "mutants": total, "stages": dict(stages.most_common()), **groups}
    lines = [f" {json.dumps(key)}: {json.dumps(value, ensure_ascii=False)}" for key, value in fields.items()]
    listed = ",\n  ".join(json.dumps(survivor, ensure_ascii=False) for survivor in survivors)
    SUMMARY.write_text("{\n" + ",\n".join(lines) + f',\n "survivors": [\n  {listed}\n ]\n}}\n')


def print_counts(title: str, groups: dict[str, list[int]]) -> None:
    print(f"| {title} | mutants | noticed | share |\n|---|---|---|---|")
    for name, (mutants, noticed) in sorted(groups.items()):
        print(f"| {name} | {mutants} | {noticed} | {100 * noticed / mutants:.1f} % |")
    print()


def print_page() -> None:
    """docs/cuda_mutants.md"""
    summary = json.loads(SUMMARY.read_text())
    known, noticed = (sum(counts[i] for counts in summary["rules"].values()) for i in (0, 1))
    kinds = Counter(survivor["kind"] for survivor in summary["survivors"])
    broken = known - kinds["same"] - kinds["choice"]
    share, of_broken = (f"{100 * noticed / max(total, 1):.1f} %" for total in (known, broken))
    counts = {"same": kinds["same"], "choice": kinds["choice"], "left": known - noticed, "broken": broken}
    shares = {"share": share, "of_broken": of_broken, "commit": summary["commit"]}
    print(HEAD.format(noticed=noticed, known=known, all=summary["mutants"], **shares, **counts))
    print_counts("rule", summary["rules"])
    print_counts("file", summary["files"])
    print("| first noticed by | mutants |\n|---|---|")
    for stage, count in summary["stages"].items():
        print(f"| {stage} | {count} |")
    print("\n## Survivors\n\n| place | what is broken | why it is not noticed |\n|---|---|---|")
    for survivor in summary["survivors"]:
        code = survivor["source"].replace("|", "\\|")
        print(f"| {survivor['where']} | {survivor['rule']}: `{code}` | {survivor['kind']}: {survivor['why']} |")
