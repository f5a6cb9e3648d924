"""Peak memory of one call, and the memory limit of a child process."""

from __future__ import annotations

import ctypes
import gc
import resource
import sys
from collections.abc import Callable
from pathlib import Path

import torch

RESIDENT_NOISE = 8 * 2**20  # pages of code and of the profiler that a call may touch for the first time


def _status(key: str) -> int:
    """A size of /proc/self/status in bytes."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(key + ":"):
            return int(line.split()[1]) * 1024
    raise KeyError(key)


def limit_memory(limit: int) -> None:
    """Let this process map at most `limit` bytes more than it has mapped now."""
    if sys.platform == "linux":
        total = _status("VmSize") + limit
        resource.setrlimit(resource.RLIMIT_AS, (total, total))


def allocator_peak(function: Callable[[], object]) -> int:
    """Peak bytes that torch's CPU allocator holds above the start, from its own events; exact at any size."""
    activities = [torch.profiler.ProfilerActivity.CPU]
    with torch.profiler.profile(activities=activities, profile_memory=True, acc_events=True) as profile:
        function()
    recorded = profile.profiler.kineto_results.events()
    events = sorted((e.start_ns(), e.nbytes()) for e in recorded if e.name() == "[memory]")
    current = peak = 0
    for _, change in events:
        current += change
        peak = max(peak, current)
    return peak


def resident_growth(function: Callable[[], object]) -> int:
    """Growth of the resident set's high-water mark, in bytes: sees every allocator, but only whole pages."""
    gc.collect()
    try:
        ctypes.CDLL(None).malloc_trim(0)
        Path("/proc/self/clear_refs").write_text("5")  # resets the high-water mark
        before = _status("VmRSS")
        function()
        return max(0, _status("VmHWM") - before)
    except (OSError, AttributeError, KeyError):  # not Linux with glibc
        return 0


def peak_memory(function: Callable[[], object]) -> int:
    """Peak bytes of one call beyond what was there before.

    torch's own count, unless the resident set grew by clearly more: scratch memory from elsewhere.
    """
    resident, allocated = resident_growth(function), allocator_peak(function)
    return resident if resident > allocated + RESIDENT_NOISE else allocated


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an exception, of Python, torch or C++, says that memory ran out."""
    text = str(error).lower()
    return isinstance(error, MemoryError) or any(
        sign in text for sign in ("can't allocate memory", "not enough memory", "out of memory", "bad_alloc")
    )
