"""What is public: the names that the reference holds and that must have a docstring. Needs no Sphinx."""

from __future__ import annotations

import importlib
import inspect
import pkgutil
import tokenize
from io import StringIO
from types import ModuleType
from typing import Any

# A package's own names stand under it; those of its modules that it does not export stand under the module.
PACKAGES = (
    "drpm.ops",
    "drpm.distributions",
    "drpm.nn",
    "drpm.estimators",
    "drpm.distributed",
    "drpm.sklearn",
    "drpm.models",
    "drpm.training",
    "drpm.data",
    "drpm.testing",
    "drpm.reference",
)
WITH_MODULES = ("drpm.models", "drpm.training", "drpm.testing")


def exported(module: ModuleType) -> list[str]:
    """Names of `__all__`, or the functions and classes that the module itself defines."""
    if hasattr(module, "__all__"):
        return sorted(module.__all__, key=str.lower)
    return [
        name
        for name, value in vars(module).items()
        if not name.startswith("_")
        and (inspect.isfunction(value) or inspect.isclass(value))
        and value.__module__ == module.__name__
    ]


def modules_of(package: str) -> list[str]:
    """The package and, where its modules are a part of the interface, these."""
    modules = [package]
    if package in WITH_MODULES:
        path = importlib.import_module(package).__path__
        modules += [f"{package}.{found.name}" for found in pkgutil.iter_modules(path) if found.name[0] != "_"]
    return modules


def public_names(package: str) -> dict[str, list[str]]:
    """Module: its public names; an object appears once, where it is exported first."""
    names: dict[str, list[str]] = {}
    seen: set[int] = set()
    for name in modules_of(package):
        module = importlib.import_module(name)
        own = [x for x in exported(module) if id(getattr(module, x)) not in seen]
        seen |= {id(getattr(module, x)) for x in own if callable(getattr(module, x))}
        if own:
            names[name] = own
    return names


def documentation(module: str, name: str) -> str:
    """Docstring of a function or class; of a constant the comment on its line or above it. Empty: there is none."""
    value = getattr(importlib.import_module(module), name)
    if inspect.isroutine(value) or inspect.isclass(value):
        text = value.__doc__ or ""
        generated = inspect.isclass(value) and text.startswith(f"{name}(")  # what NamedTuple and dataclass write
        return "" if generated else inspect.cleandoc(text)
    return comment_of(importlib.import_module(module), name)


def comment_of(module: ModuleType, name: str) -> str:
    """The comment or string that stands by an assignment, here or where the name is imported from."""
    source = inspect.getsource(module)
    lines = source.splitlines()
    for number, line in enumerate(lines):
        if line.startswith((f"{name} =", f"{name}:")):
            after = lines[number + 1] if number + 1 < len(lines) else ""
            if after.startswith('"""'):
                return after.strip('"')
            return trailing_comments(source).get(number) or above(lines, number)
    for other in imported_from(lines, name):
        return comment_of(importlib.import_module(other), name)
    return ""


def above(lines: list[str], number: int) -> str:
    first = number
    while first and lines[first - 1].startswith("#"):
        first -= 1
    return " ".join(line.lstrip("#: ") for line in lines[first:number])


def imported_from(lines: list[str], name: str) -> list[str]:
    return [
        line.split()[1]
        for line in lines
        if line.startswith("from ") and name in line.partition(" import ")[2].split("#")[0].replace(",", " ").split()
    ]


def trailing_comments(source: str) -> dict[int, str]:
    """Line, from 0: the comment that ends it."""
    return {
        token.start[0] - 1: token.string.lstrip("#: ")
        for token in tokenize.generate_tokens(StringIO(source).readline)
        if token.type == tokenize.COMMENT and token.line[: token.start[1]].strip()
    }


def fields(cls: type) -> dict[str, str]:
    """Fields of a NamedTuple or dataclass and the comments on their lines or above them."""
    source = inspect.cleandoc("\n" + inspect.getsource(cls))
    lines, comments = source.splitlines(), trailing_comments(source)
    annotated: dict[str, Any] = vars(cls).get("__annotations__", {})
    found = {}
    for name in getattr(cls, "_fields", None) or getattr(cls, "__dataclass_fields__", {}):
        for number, line in enumerate(lines):
            if name in annotated and line.lstrip().startswith(f"{name}:"):
                found[name] = comments.get(number, "")
                break
    return found
