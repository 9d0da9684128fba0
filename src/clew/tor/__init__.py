"""Tor: what a program, its tor and its onion services do, as traces.

The names here are what most programs need. Each is imported when it is first used: a program that only reads traces
does not pay for a control client.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from clew.tor.control import ControlClient
    from clew.tor.lab import Lab
    from clew.tor.manager import CircuitManager
    from clew.tor.mapper import TorMapper
    from clew.tor.privacy import Privacy, PrivacyFilter
    from clew.tor.requests import RequestTracing, trace_requests
    from clew.tor.stem_source import from_stem

__all__ = [
    "CircuitManager",
    "ControlClient",
    "Lab",
    "Privacy",
    "PrivacyFilter",
    "RequestTracing",
    "TorMapper",
    "from_stem",
    "trace_requests",
]

_MODULES = {
    "CircuitManager": "manager",
    "ControlClient": "control",
    "Lab": "lab",
    "Privacy": "privacy",
    "PrivacyFilter": "privacy",
    "RequestTracing": "requests",
    "TorMapper": "mapper",
    "from_stem": "stem_source",
    "trace_requests": "requests",
}


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
