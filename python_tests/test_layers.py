"""Dependencies run one way: what each part may know, in Python and in C++, as docs/design.md shows it; no circles."""

import ast
import re
from functools import lru_cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

# Part: the parts that its files may import. drpm/__init__.py and drpm/__main__.py may import all of drpm.
PYTHON = {
    "reference": (),
    "data": ("ops",),  # the one form of an error
    "ops": ("reference",),
    "testing": ("ops", "reference"),
    "estimators": ("ops",),
    "distributed": ("ops",),
    "distributions": ("estimators", "ops"),
    "nn": ("estimators", "ops"),
    "sklearn": ("distributions", "nn", "ops"),
    "training": ("data",),
    "models": ("data", "estimators", "nn", "ops", "training"),
    "check": ("reference", "testing"),
    "demo": ("data", "models", "training"),
    "experiments": ("data", "demo", "distributions", "models", "nn", "ops", "training"),
    "benchmarks": ("data", "distributions", "estimators", "nn", "ops", "reference", "sklearn", "testing", "training"),
}

# Folder of csrc/: the folders that its files may include. Besides, `device` for CUDA sources and `glue` for what binds
# kernels to torch; of the latter no kernel or formula may include any, be it through others, but the carver of memory.
CSRC = {
    "lanes": (),
    "special": ("lanes",),
    "noise": ("lanes",),
    "device": ("lanes",),
    "glue": ("device", "lanes", "noise", "special"),
    "sort": ("lanes",),
    "band": ("lanes",),
    "mvhg": ("lanes", "noise", "special"),
    "partition": ("band", "sort"),
    "relaxed_sort": ("band", "sort"),
    "relaxed_sort_matmul": ("band", "sort"),
    "plackett_luce_log_prob": ("lanes", "special"),
    "partition_log_prob": ("lanes", "special"),
    "partition_marginals": ("lanes", "mvhg", "sort", "special"),
    "partition_mode": ("lanes", "sort", "special"),
    "random_partition": ("lanes", "mvhg", "noise", "partition"),
    "k_subset_sample": ("lanes", "mvhg"),
    "sized_assignment": ("lanes",),
    "random_assignment": ("band", "lanes", "noise", "partition", "sort", "special"),
}
CUDA = re.compile(r"(\.cu|_cuda\.h)$")
WITHOUT_TORCH = re.compile(r"(_cpu\.cpp|_cuda\.cu|_math\.h|_rows\.h)$")
CARVER = "glue/scratch.h"


def table(head, allowed):
    """As docs/design.md has it."""
    rows = [f"| `{part}` | {', '.join(f'`{x}`' for x in known) or '–'} |" for part, known in allowed.items()]
    return "\n".join([f"| {head} | may know |", "|---|---|", *rows])


@lru_cache(maxsize=1)
def python_imports():
    """Module of the repository: those that it imports, wherever in the file; what only types need is left out."""
    paths = [p for folder in ("drpm", "experiments", "benchmarks") for p in (ROOT / folder).rglob("*.py")]
    modules = {".".join(p.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): p for p in paths}
    found = {}
    for module, path in modules.items():
        package = module if path.name == "__init__.py" else module.rpartition(".")[0]
        found[module] = set()
        tree = ast.parse(path.read_text())
        typing = [node for node in tree.body if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test)]
        tree.body = [node for node in tree.body if node not in typing]
        for node in ast.walk(tree):
            if isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom):
                above = package.split(".")[: len(package.split(".")) - node.level + 1] if node.level else []
                base = ".".join([*above, *([node.module] if node.module else [])])
                names = [f"{base}.{alias.name}" if f"{base}.{alias.name}" in modules else base for alias in node.names]
            else:
                continue
            found[module].update(name for name in names if name in modules and name != module)
    return found


def part(module):
    names = module.split(".")
    return (names[1] if len(names) > 1 else "drpm") if names[0] == "drpm" else names[0]


def free(name):
    """Outside the layers: what says what is installed, and the entries that gather everything."""
    return name == "drpm" or name.startswith("_")


def circle(graph):
    """A list of names that import one another in turn, or None."""
    state, stack = {}, []

    def visit(name):
        state[name] = "open"
        stack.append(name)
        for other in sorted(graph.get(name, ())):
            if state.get(other) == "open":
                return [*stack[stack.index(other) :], other]
            if other not in state:
                found = visit(other)
                if found:
                    return found
        state[name] = "done"
        stack.pop()
        return None

    for name in sorted(graph):
        found = visit(name) if name not in state else None
        if found:
            return found
    return None


def broken(edges, allowed):
    """Uses that the table does not have, and parts that are not in it."""
    wrong = [f"{a} -> {b}" for a, b in sorted(edges) if a != b and b not in allowed.get(a, ())]
    return wrong + [f"{a} is in no row" for a in sorted({a for a, _ in edges} - set(allowed))]


def test_python_layers():
    edges = {(part(a), part(b)) for a, others in python_imports().items() for b in others}
    edges = {(a, b) for a, b in edges if not free(a) and not free(b)}
    assert broken(edges, PYTHON) == []
    assert circle(PYTHON) is None


def test_python_files_import_in_no_circle():
    # a package that gathers its files is not one of them
    packages = {m for m in python_imports() if (ROOT / Path(*m.split(".")) / "__init__.py").exists()}
    graph = {a: b - packages for a, b in python_imports().items() if a not in packages}
    assert circle(graph) is None


def includes():
    """(including file, included file) of csrc/, tests left out."""
    for path in sorted((ROOT / "csrc").rglob("*")):
        name = path.relative_to(ROOT / "csrc")
        if path.suffix in (".h", ".cpp", ".cu") and name.parts[0] not in ("tests", "library.cpp"):
            for included in re.findall(r'^#include "([^"]+)"', path.read_text(), re.M):
                if (ROOT / "csrc" / included).exists():
                    yield name, Path(included)


def reached(name, files):
    found, waiting = set(), [name]
    while waiting:
        for other in files.get(waiting.pop(), set()) - found:
            found.add(other)
            waiting.append(other)
    return found


def test_csrc_layers():
    folders, files = set(), {}
    for name, included in includes():
        a, b = name.parts[0], included.parts[0]
        files.setdefault(str(name), set()).add(str(included))
        if a != b and b != "glue" and not (b == "device" and CUDA.search(name.name)):
            folders.add((a, b))
    assert broken(folders, CSRC) == []
    assert circle(CSRC) is None and circle(files) is None
    kernels = [name for name in files if WITHOUT_TORCH.search(name) and not name.startswith("glue/")]
    bound = [f"{name}: {x}" for name in kernels for x in reached(name, files) if x.startswith("glue/") and x != CARVER]
    assert kernels and bound == []


@pytest.mark.parametrize(("head", "allowed"), [("drpm", PYTHON), ("csrc", CSRC)])
def test_the_page_shows_these_tables(head, allowed):
    assert table(head, allowed) in (ROOT / "docs/design.md").read_text()


def test_the_checks_notice():
    assert broken({("ops", "nn")}, PYTHON) == ["ops -> nn"]
    assert broken({("new", "ops")}, PYTHON)
    assert circle({"a": {"b"}, "b": {"c"}, "c": {"a"}}) == ["a", "b", "c", "a"]
