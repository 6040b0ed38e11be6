"""Offline by default: a process of the studio that tries to reach another machine gets an error instead.

A backstop beneath the libraries' own switches (HF_HUB_OFFLINE and the like), which each version renames. The hook
sees Python's sockets; PostgreSQL's client connects below it, to the address that the administrator gave.
"""

from __future__ import annotations

import errno
import ipaddress
import sys
from typing import Any

__all__ = ["forbid_outbound_calls", "is_this_machine"]

_LOCAL_NAMES = frozenset({"localhost", "localhost.localdomain", "ip6-localhost", "", None})
_EVENTS = frozenset({"socket.connect", "socket.sendto", "socket.getaddrinfo", "socket.gethostbyname"})


def forbid_outbound_calls() -> None:
    """From now on and until it ends, this process reaches no other machine. Cannot be undone; twice is once."""
    if not getattr(sys, "_ladder_is_offline", False):
        sys._ladder_is_offline = True  # type: ignore[attr-defined]  # audit hooks outlive modules, so must the mark
        sys.addaudithook(_refuse)


def _refuse(event: str, arguments: tuple[Any, ...]) -> None:
    if event not in _EVENTS:
        return
    address = arguments[1] if event in ("socket.connect", "socket.sendto") else arguments[0]
    host = address[0] if isinstance(address, tuple) else address if event.startswith("socket.get") else ""
    if not is_this_machine(host):
        raise OSError(
            errno.ENETUNREACH,
            f"A call to {host} was refused, because the studio is offline. Set LADDER_OFFLINE=0 to allow such calls",
        )


def is_this_machine(host: Any) -> bool:
    """Whether a host name or address is of this machine, for certain: a name that only resolves to it is not."""
    name = host.decode(errors="replace") if isinstance(host, bytes) else host
    if name in _LOCAL_NAMES:
        return True
    try:
        address = ipaddress.ip_address(str(name).partition("%")[0])
    except ValueError:
        return False
    return address.is_loopback or address.is_unspecified
