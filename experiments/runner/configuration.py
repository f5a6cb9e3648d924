"""Configurations of experiments: a dataclass, filled from the row of a sweep and `--set NAME=VALUE`."""

import dataclasses
import functools
import itertools
import types
import typing
from pathlib import Path
from typing import Any, TypeVar

_Config = TypeVar("_Config")
FOLDER = Path(__file__).parents[1]


LOCATION = {"location": True}  # metadata of a field that says where this machine keeps something


def recorded(config: Any) -> dict[str, Any]:
    """Give what a result file keeps of a configuration: all but the fields marked `LOCATION`."""
    kept = [field.name for field in dataclasses.fields(config) if not field.metadata.get("location")]
    return {name: value for name, value in dataclasses.asdict(config).items() if name in kept}


@functools.cache
def _sweeps(experiment: str) -> dict[str, dict[str, Any]]:
    """Read every sweep of an experiment, a YAML file each; give row -> options.

    A sweep holds `options` of all its rows and `grids`; a grid is a list of axes, an axis a mapping from a part of a
    row's name to options. Each combination of one entry of every axis is a row: its name is the parts joined by "_",
    its options those of the sweep and of the entries, where a later one overrides.
    """
    import yaml

    found: dict[str, dict[str, Any]] = {}
    for path in sorted((FOLDER / experiment / "sweeps").glob("*.yaml")):
        sweep = yaml.safe_load(path.read_text(encoding="utf-8"))
        for axes in sweep["grids"]:
            for entries in itertools.product(*(axis.items() for axis in axes)):
                row = "_".join(str(part) for part, _ in entries)
                if row in found:
                    raise ValueError(f"{experiment}: {path.name} must name new rows, got {row!r}")
                found[row] = dict(sweep.get("options", {}))
                for _, options in entries:
                    found[row] |= options
    return found


def rows(experiment: str) -> list[str]:
    """Names of the rows of an experiment."""
    return sorted(_sweeps(experiment))


def read_row(experiment: str, row: str) -> dict[str, Any]:
    """Give the options of a row, or of the NAME: VALUE lines in a path that ends in .yaml.

    Raises: FileNotFoundError that lists the rows; ValueError when the file holds no mapping.
    """
    import yaml

    if not row.endswith((".yaml", ".yml")) and row in _sweeps(experiment):
        return dict(_sweeps(experiment)[row])
    path = Path(row)
    if not row.endswith((".yaml", ".yml")) or not path.is_file():
        raise FileNotFoundError(f"{experiment}: --row must be a .yaml file or one of {rows(experiment)}, got {row!r}")
    content = yaml.safe_load(path.read_text(encoding="utf-8"))
    if not isinstance(content, dict):
        raise ValueError(f"{experiment}: {path} must hold NAME: VALUE lines, got {type(content).__name__}")
    return content


def parse_settings(texts: list[str]) -> dict[str, Any]:
    """Read NAME=VALUE texts; a value is YAML."""
    import yaml

    settings = {}
    for text in texts:
        name, separator, value = text.partition("=")
        if not separator or not name:
            raise ValueError(f"--set must be NAME=VALUE, got {text!r}")
        settings[name.strip()] = yaml.safe_load(value)
    return settings


def build(kind: type[_Config], values: dict[str, Any], experiment: str) -> _Config:
    """Make the dataclass from plain values, each converted to its field's type.

    Raises: ValueError for an unknown name or a value of another type.
    """
    hints = typing.get_type_hints(kind)
    fields = {field.name for field in dataclasses.fields(kind)}  # type: ignore[arg-type]
    unknown = sorted(values.keys() - fields)
    if unknown:
        raise ValueError(f"{experiment}: no option {', '.join(unknown)}; options are {', '.join(sorted(fields))}")
    return kind(**{name: _convert(value, hints[name], f"{experiment}: {name}") for name, value in values.items()})


def _convert(value: Any, hint: Any, name: str) -> Any:
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin in (types.UnionType, typing.Union):
        if value is None and type(None) in arguments:
            return None
        (hint,) = [argument for argument in arguments if argument is not type(None)]
        return _convert(value, hint, name)
    if origin is tuple:
        if isinstance(value, list | tuple):
            inner = arguments[0] if len(arguments) == 2 and arguments[1] is Ellipsis else None
            if inner is not None or len(value) == len(arguments):
                hints = [inner] * len(value) if inner is not None else arguments
                return tuple(_convert(v, h, name) for v, h in zip(value, hints, strict=True))
    elif hint is float:  # YAML reads 1e-4 as text and 1 as an integer
        if not isinstance(value, bool):
            try:
                return float(value)
            except (TypeError, ValueError):
                pass
    elif isinstance(value, hint) and not (hint is int and isinstance(value, bool)):
        return value
    wanted = getattr(hint, "__name__", str(hint))
    raise ValueError(f"{name} must be {wanted}, got {value!r}")
