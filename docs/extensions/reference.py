"""Directive `public`: every public name of a package, from its docstring; a name without one fails the build.

.. public:: drpm.ops
   :match: mvhg_* hypergeometric_*

With `match` those names that fit one of the patterns and that no earlier directive of the page has taken.
"""

from __future__ import annotations

import importlib
import inspect
from fnmatch import fnmatch
from typing import Any, ClassVar

from docstrings import converted, inline
from docutils import nodes
from docutils.parsers.rst import directives
from docutils.statemachine import StringList
from public_names import PACKAGES, documentation, fields, public_names
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

# Of models and tools only full names are links: `GaussianMixture` may be scikit-learn's.
BARE = ("drpm.distributions", "drpm.nn", "drpm.sklearn", "drpm.estimators")


def link_targets() -> dict[str, str]:
    """What code in prose may mean: full names, and those bare ones of the main packages that mean one thing."""
    targets: dict[str, str] = {}
    ambiguous = set()
    for package in PACKAGES:
        if package == "drpm.reference":
            continue
        for module, names in public_names(package).items():
            for name in names:
                full = f"{module}.{name}"
                targets[full] = full
                if package in BARE and targets.setdefault(name, full) != full:
                    ambiguous.add(name)
    for name in ambiguous:
        del targets[name]
    return targets | {name: f"drpm.ops.{name}" for name in public_names("drpm.ops")["drpm.ops"]}


TARGETS = link_targets()


class Public(SphinxDirective):
    required_arguments = 1
    option_spec: ClassVar[dict[str, Any]] = {"match": directives.unchanged}

    def run(self) -> list[nodes.Node]:
        package = self.arguments[0]
        patterns = self.options.get("match", "*").split()
        taken = self.env.temp_data.setdefault(f"public names of {package}", set())
        lines: list[str] = []
        for module, names in public_names(package).items():
            chosen = [x for x in names if f"{module}.{x}" not in taken and any(fnmatch(x, p) for p in patterns)]
            taken |= {f"{module}.{name}" for name in chosen}
            if not chosen:
                continue
            if module != package:
                head = (importlib.import_module(module).__doc__ or "").strip().split("\n\n")[0]
                lines += [f".. rubric:: {module}", "", inline(" ".join(head.split()), TARGETS), ""]
            lines += self.table(module, chosen)
            for name in chosen:
                lines += entry(module, name)
        node = nodes.container()
        self.state.nested_parse(StringList(lines, source=self.get_source_info()[0]), self.content_offset, node)
        return node.children

    def table(self, module: str, names: list[str]) -> list[str]:
        lines = [".. list-table::", "   :widths: auto", "   :class: public-names", ""]
        for name in names:
            text = documentation(module, name)
            if not text:
                raise self.error(f"{module}.{name}: a public name must have a docstring (a constant: a comment)")
            first = " ".join(text.split("\n\n")[0].split())
            lines += [f"   * - :py:obj:`~{module}.{name}`", f"     - {inline(first, TARGETS)}"]
        return [*lines, ""]


def entry(module: str, name: str) -> list[str]:
    value = getattr(importlib.import_module(module), name)
    if inspect.isclass(value):
        return [f".. autoclass:: {module}.{name}", "   :members:", ""]
    if inspect.isroutine(value):
        return [f".. autofunction:: {module}.{name}", ""]
    text, shown = inline(documentation(module, name), TARGETS), repr(value)
    shown = shown if len(shown) < 100 else shown[:90] + " …"
    return [f".. py:data:: {module}.{name}", f"   :value: {shown}", "", f"   {text}", ""]


def process_docstring(app: Sphinx, what: str, name: str, obj: Any, options: Any, lines: list[str]) -> None:
    lines[:] = converted(lines, TARGETS)
    if what == "class":
        described = {field: comment for field, comment in fields(obj).items() if comment}
        if described:
            lines += [":Fields:"]
            for field, comment in described.items():
                lines += ["", f"    ``{field}``", "        " + inline(comment, TARGETS)]
            lines.append("")


def skip_fields(app: Sphinx, what: str, name: str, obj: Any, skip: bool, options: Any) -> bool | None:
    """Fields of a NamedTuple stand in its own text."""
    return True if type(obj).__name__ == "_tuplegetter" else None


def setup(app: Sphinx) -> dict[str, Any]:
    app.add_directive("public", Public)
    app.connect("autodoc-process-docstring", process_docstring)
    app.connect("autodoc-skip-member", skip_fields)
    return {"parallel_read_safe": True}
