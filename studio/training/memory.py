"""How much memory this process ever held."""

from __future__ import annotations

import resource
from pathlib import Path

import torch

__all__ = ["peak"]


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
