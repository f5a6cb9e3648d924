"""Where and with what a measurement was taken."""

from __future__ import annotations

import os
import platform
from datetime import datetime, timezone
from importlib import metadata
from pathlib import Path

from drpm.training.provenance import commit_of, processor

PEER_PACKAGES = ("softtorch", "diffsort", "torchsort", "torchpsort")


def _first(path: str, key: str) -> str | None:
    try:
        for line in Path(path).read_text().splitlines():
            if line.startswith(key):
                return line.split(":", 1)[1].strip()
    except OSError:
        pass
    return None


def memory_available() -> int:
    """Bytes that can be had without swapping."""
    found = _first("/proc/meminfo", "MemAvailable")
    return int(found.split()[0]) * 1024 if found else 8 * 2**30


def commit() -> dict:
    """The commit of this checkout, and whether files that are in git differ from it."""
    found = commit_of(Path(__file__).resolve().parent)
    if found == "unknown":
        return {"commit": None, "dirty": None}
    return {"commit": found[:12], "dirty": found.endswith("-dirty")}


def describe(threads: int) -> dict:
    """Machine and versions, for the head of a result file."""
    import torch

    import drpm

    memory = _first("/proc/meminfo", "MemTotal")
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    versions = {}
    for package in PEER_PACKAGES:
        try:
            versions[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return {
        "cpu": processor(),
        "cores": cores,
        "threads": threads,
        "memory_gb": round(int(memory.split()[0]) / 2**20, 1) if memory else None,
        "system": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
        "torch": torch.__version__,
        "drpm": drpm.__version__,
        "build": {key: value for key, value in drpm.build_info().items() if key not in ("torch", "version")},
        "peers": versions,
    }


def line(content: dict) -> str:
    """One line about where a result file comes from."""
    host = content["machine"]
    return (
        f"{host['cpu']}, {host['cores']} cores; torch {host['torch']}, drpm {host['drpm']} "
        f"({host['build']['simd']}), commit {content['commit']}{', changed' if content['dirty'] else ''}."
    )


def now() -> str:
    return datetime.now(timezone.utc).isoformat(timespec="seconds")
