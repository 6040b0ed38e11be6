"""How much memory this process holds, and how much it ever held."""

from __future__ import annotations

import resource
from dataclasses import replace
from pathlib import Path

import psutil
import torch

from studio.training.sizes import Machine, machine

__all__ = ["peak", "place_of_this_run"]


def place_of_this_run() -> Machine:
    """The machine as the run has it to itself: what this process holds already is its own, and free to it."""
    place = machine()
    if place.is_gpu:
        return place
    return replace(place, free=min(place.total, place.free + _held()))


def _held() -> int:
    return int(psutil.Process().memory_info().rss)


def peak() -> tuple[int, bool]:
    """Bytes, and whether they are of the GPU: of that where there is one, else of the machine."""
    if torch.cuda.is_available():
        return int(torch.cuda.max_memory_reserved()), True
    return _resident_peak(), False


def _resident_peak() -> int:
    # VmHWM begins anew with the program, where getrusage still counts what forked it.
    try:
        for line in Path("/proc/self/status").read_text(encoding="ascii", errors="replace").splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) << 10
    except OSError:
        pass
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss << 10
