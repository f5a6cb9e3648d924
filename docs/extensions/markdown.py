"""Markdown pages that also stand on a forge: links out of docs/, numbered equations, code that names public things."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

from docutils import nodes
from reference import TARGETS
from sphinx import addnodes
from sphinx.application import Sphinx
from sphinx.transforms import SphinxTransform

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"
# Files of the repository's root that have a page of their own.
PAGES = {"README.md": "index.md", "CHANGELOG.md": "changelog.md", "CONTRIBUTING.md": "contributing.md"}
_LINK = re.compile(r"(?<!!)\[((?:[^\[\]]|\[[^\]]*\])*)\]\(([^)#\s:]+)(#[^)\s]*)?\)")


def rewrite_links(app: Sphinx, name: str, source: list[str]) -> None:
    page = Path(app.env.doc2path(name))
    if page.suffix == ".md":
        source[0] = rewritten(source[0], page.parent, page.parent)


def rewrite_included(app: Sphinx, path: Path, name: str, source: list[str]) -> None:
    page = Path(app.env.doc2path(name))
    source[0] = rewritten(source[0], (DOCS / path).resolve().parent, page.parent)


def rewritten(text: str, base: Path, folder: Path) -> str:
    """Text of a file in `base` for a page in `folder`: links to pages, and the text alone of what is no page."""

    def link(match: re.Match[str]) -> str:
        label, target, anchor = match[1], match[2], match[3] or ""
        path = (base / target).resolve()
        if not path.is_relative_to(ROOT):
            return match[0]
        inside = path.relative_to(ROOT).as_posix()
        if inside in PAGES:
            path = DOCS / PAGES[inside]
        if path.is_dir() and (path / "index.md").exists():
            path = path / "index.md"
        if path.is_relative_to(DOCS) and not path.is_dir():
            return f"[{label}]({os.path.relpath(path, folder)}{anchor})"
        return label if "`" in label or inside in label else f"{label} (`{inside}`)"

    return _LINK.sub(link, text)


class Equations(SphinxTransform):
    """An equation with a number or an environment of its own is passed on as it is: `split` takes neither."""

    default_priority = 400

    def apply(self, **kwargs: Any) -> None:
        for node in self.document.findall(nodes.math_block):
            text = node.astext()
            if r"\tag" in text or r"\begin{" in text:
                node["no-wrap"] = True
                node.children = []
                node += nodes.Text(rf"\[{text}\]")


class Names(SphinxTransform):
    """`drpm.ops.partition` in prose leads to the reference."""

    default_priority = 410

    def apply(self, **kwargs: Any) -> None:
        for node in list(self.document.findall(nodes.literal)):
            target = TARGETS.get(re.sub(r"\(.*\)$", "", node.astext()))
            if target is None or isinstance(node.parent, (nodes.reference, addnodes.pending_xref, nodes.title)):
                continue
            link = addnodes.pending_xref(
                "", refdomain="py", reftype="obj", reftarget=target, refexplicit=True, refdoc=self.env.docname
            )
            node.replace_self(link)
            link += node


def setup(app: Sphinx) -> dict[str, Any]:
    app.connect("source-read", rewrite_links)
    app.connect("include-read", rewrite_included)
    app.add_transform(Equations)
    app.add_transform(Names)
    return {"parallel_read_safe": True}
