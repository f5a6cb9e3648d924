"""Docstrings of the house template as reStructuredText: sections, formulas, shapes, code between single backticks."""

from __future__ import annotations

import re

SECTIONS = ("Args", "Parameters", "Attributes", "Returns", "Gradient", "Numerics", "Memory", "Raises", "Reference")
_SECTION = re.compile(rf"({'|'.join(SECTIONS)}):(?:\s+(.*))?$")
_ITEM = re.compile(r"( {4})([A-Za-z_*][\w*, .]*): (.*)$")
_PAGE = re.compile(r"docs/([\w/]+)\.md")


def converted(lines: list[str], targets: dict[str, str]) -> list[str]:
    """The docstring as reStructuredText. `targets`: what a word between backticks is called in full."""
    pages = list(dict.fromkeys(_PAGE.findall("\n".join(lines))))
    result: list[str] = []
    section, literal = "", False
    for number, line in enumerate(lines):
        match = _SECTION.match(line)
        if match:
            section = match[1]
            title = {"Args": "Arguments"}.get(section, section)
            section = "Args" if section == "Parameters" else section
            result += ["", f":{title}:"]
            if match[2]:
                result.append("    " + inline(match[2], targets))
        elif section == "Args" and _ITEM.match(line):
            item = _ITEM.match(line)
            assert item
            result += ["", f"    ``{item[2]}``", "        " + inline(item[3], targets)]
        elif not line.strip():
            section, literal = "", False
            result.append("")
        elif section:
            result.append("    " + " " * (4 if section == "Args" else 0) + inline(line.strip(), targets))
        elif line.startswith("    ") and (number == 0 or not lines[number - 1].strip()):
            literal = True
            result += ["", "::", "", line]
        elif literal or line.startswith((">>>", "...")):
            result.append(line)
        else:
            result.append(inline(line.strip(), targets))
    if pages:
        result += ["", ":Mathematics:" if any(p.startswith("math/") for p in pages) else ":See also:"]
        result.append("    " + ", ".join(f":doc:`/{page}`" for page in pages))
    return [*result, ""]


def inline(text: str, targets: dict[str, str]) -> str:
    """Escape what reStructuredText would read as markup; code becomes literal, or a link where the name is public."""
    parts = re.split(r"`([^`]+)`", text)
    out = []
    for index, part in enumerate(parts):
        if index % 2 == 0:
            escaped = re.sub(r"([\\*|])", r"\\\1", part)
            escaped = re.sub(r"_(?!\w)", r"\\_", escaped)
            out.append(re.sub(_PAGE, r":doc:`/\1`", escaped))
            continue
        target = targets.get(part.removesuffix("()"))
        code = f":py:obj:`{part} <{target}>`" if target else f"``{part}``"
        before = r"\ " if parts[index - 1][-1:].isalnum() else ""
        after = r"\ " if parts[index + 1][:1].isalnum() else ""
        out.append(before + code + after)
    return "".join(out)
