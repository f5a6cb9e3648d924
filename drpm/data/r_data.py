"""R's saved workspaces (.rda, XDR): vectors, lists and attributes as Python objects."""

import bz2
import gzip
import lzma
import os
import struct
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from drpm.data._reading import reading

_OPENERS = {b"\x1f\x8b": gzip.decompress, b"BZ": bz2.decompress, b"\xfd7": lzma.decompress}
_CONSTANTS = {254, 253, 252, 251, 247, 242, 241}  # NULL, the global environment, …: nothing to read


@dataclass
class RObject:
    """A value with attributes: an array, a list of values, strings (None: NA), or an environment's {name: value}."""

    value: Any = None
    attributes: dict[str, Any] = field(default_factory=dict)


def read_rda(path: str | os.PathLike[str]) -> dict[str, RObject]:
    """Give the objects of a workspace by name; no code of it is run, and functions are None.

    Raises: FileNotFoundError; ValueError when it is no whole .rda file of format 2 or 3.
    """
    content = Path(path).read_bytes()
    with reading("read_rda", path, ".rda file"):
        content = _OPENERS.get(content[:2], bytes)(content)
        if content[:7] not in (b"RDX2\nX\n", b"RDX3\nX\n"):
            raise ValueError(f"it starts with {content[:7]!r}")
        reader = _Reader(content, 7)
        version = reader.integers(3)[0]
        if version >= 3:
            reader.skip(int(reader.integers(1)[0]))
        found = reader.item()
    return {name: value if isinstance(value, RObject) else RObject(value) for name, value in found.items()}


class _Reader:
    """Depth first through the serialised items; `references` are symbols and environments met before."""

    def __init__(self, content: bytes, place: int) -> None:
        self.content, self.place = content, place
        self.references: list[Any] = []

    def skip(self, count: int) -> bytes:
        if count < 0 or self.place + count > len(self.content):
            raise ValueError("it ends too early")
        self.place += count
        return self.content[self.place - count : self.place]

    def integers(self, count: int) -> tuple[int, ...]:
        return struct.unpack(f">{count}i", self.skip(4 * count))

    def array(self, kind: str) -> np.ndarray:
        (count,) = self.integers(1)
        found: np.ndarray = np.frombuffer(self.skip(count * np.dtype(kind).itemsize), kind)
        return found.astype(found.dtype.newbyteorder("="))

    def item(self) -> Any:
        (flags,) = self.integers(1)
        kind, has_attributes, has_tag = flags & 255, bool(flags & 512), bool(flags & 1024)
        if kind in _CONSTANTS:
            return None
        if kind == 255:  # a reference
            index = flags >> 8 or self.integers(1)[0]
            return self.references[index - 1]
        if kind in (248, 249, 250):  # a package or its namespace: its name
            self.integers(1)
            self.references.append([self.item() for _ in range(self.integers(1)[0])])
            return self.references[-1]
        if kind == 1:  # a symbol
            self.references.append(self.item())
            return self.references[-1]
        if kind == 2:
            return self._pairs(has_attributes, has_tag)
        if kind in (3, 5, 6, 17):  # functions, promises and calls: read over
            for _ in range(2 + has_attributes + has_tag):
                self.item()
            return None
        if kind in (7, 8):  # what R itself provides
            return self.skip(self.integers(1)[0]) and None
        if kind == 4:
            return self._environment()
        if kind == 9:  # a string
            (length,) = self.integers(1)
            return None if length == -1 else self.skip(length).decode("utf-8", "replace")
        if kind == 25:  # an object of a class: its slots are its attributes
            return RObject(None, self.item() or {})
        readers = {10: lambda: self.array(">i4"), 13: lambda: self.array(">i4"), 14: lambda: self.array(">f8")}
        if kind in (16, 19, 20):  # strings, lists
            value: Any = [self.item() for _ in range(self.integers(1)[0])]
        elif kind in readers:
            value = readers[kind]()
        else:
            raise ValueError(f"it holds an item of type {kind}")
        return RObject(value, self.item() or {} if has_attributes else {})

    def _pairs(self, has_attributes: bool, has_tag: bool) -> dict[str, Any]:
        """A linked list as a mapping; an entry without a name is called by its number."""
        found: dict[str, Any] = {}
        while True:
            if has_attributes:
                self.item()
            name = self.item() if has_tag else str(len(found))
            found[name] = self.item()
            (flags,) = self.integers(1)
            if flags & 255 != 2:
                if flags & 255 not in _CONSTANTS:
                    raise ValueError("a list of it does not end")
                return found
            has_attributes, has_tag = bool(flags & 512), bool(flags & 1024)

    def _environment(self) -> RObject:
        self.integers(1)
        made = RObject({})
        self.references.append(made)
        _enclosure, frame, table, _attributes = (self.item() for _ in range(4))
        buckets = table.value if isinstance(table, RObject) else []
        for part in [frame, *buckets]:
            made.value.update(part or {})
        return made
