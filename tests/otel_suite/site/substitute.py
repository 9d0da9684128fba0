"""Puts clew's provider where the SDK's tests look for the SDK's: in the module `opentelemetry.sdk.trace`.

As the module is executed, also once more by `importlib.reload`, which several of the tests call, its `TracerProvider`
becomes clew's. `Tracer` and `Span` stay (the SDK's own functions use them), and clew's are registered as kinds of them.
What users give to a provider stays the SDK's: processors, samplers, limits, resources, id generators, exporters.

`_Span` is what the SDK's tracers call to make a span, and some of its tests too: here a span of clew's tracer is made,
with the ids that the test gives.
"""

from __future__ import annotations

import os
import sys
from importlib.machinery import ModuleSpec, PathFinder
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence
    from importlib.abc import Loader
    from types import ModuleType

MODULE = "opentelemetry.sdk.trace"


def install() -> None:
    """From now on. Nothing of opentelemetry has been imported before."""
    sys.meta_path.insert(0, Finder())


class Finder:
    """Finds the SDK's module as Python does, and has it executed by `Substituting`."""

    def find_spec(self, name: str, path: Sequence[str] | None, target: ModuleType | None = None) -> ModuleSpec | None:
        if name != MODULE:
            return None
        spec = PathFinder.find_spec(name, path, target)
        if spec is not None and spec.loader is not None:
            spec.loader = Substituting(spec.loader)  # type: ignore[assignment] # it has what Python's import calls
        return spec


class Substituting:
    """A loader that puts clew's provider into the module."""

    def __init__(self, loader: Loader) -> None:
        self._loader = loader

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        return self._loader.create_module(spec)

    def exec_module(self, module: ModuleType) -> None:
        self._loader.exec_module(module)
        substitute(module)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._loader, name)


def substitute(module: Any) -> None:
    import clew.otel

    module.TracerProvider = counted(clew.otel.TracerProvider)
    module.Tracer.register(clew.otel.OtelTracer)
    module.Span.register(clew.otel.OtelSpan)
    module._Span = make_span


def counted(provider: Any) -> Any:
    """A provider that tells, at each that is made, that clew was reached."""
    if not hasattr(provider, "told"):
        made = provider.__init__

        def make(self: Any, *arguments: Any, **options: Any) -> None:
            tell()
            made(self, *arguments, **options)

        provider.__init__ = make
        provider.told = True
    return provider


def tell() -> None:
    """One byte more in the file: in this process and in those it starts alike."""
    file = os.open(os.environ["CLEW_OTEL_SUITE_REACHED"], os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    os.write(file, b".")
    os.close(file)


class GivenIds:
    """An id generator that gives the ids of one context; of none, random ones."""

    def __init__(self, context: Any) -> None:
        self._context = context if isinstance(getattr(context, "trace_id", None), int) else None

    def generate_trace_id(self) -> int:
        return int.from_bytes(os.urandom(16)) if self._context is None else int(self._context.trace_id)

    def generate_span_id(self) -> int:
        return int.from_bytes(os.urandom(8)) if self._context is None else int(self._context.span_id)

    def is_trace_id_random(self) -> bool:
        return self._context is None


def make_span(
    name: str,
    context: Any,
    parent: Any = None,
    resource: Any = None,
    attributes: Any = None,
    span_processor: Any = None,
) -> Any:
    """A span of clew's tracer, for the arguments of `_Span` that the tests use."""
    from opentelemetry import trace as api
    from opentelemetry.context import Context
    from opentelemetry.sdk.trace.sampling import ALWAYS_ON

    import clew.otel

    provider = clew.otel.TracerProvider(
        ALWAYS_ON,
        resource,
        shutdown_on_exit=False,
        active_span_processor=span_processor,
        id_generator=GivenIds(context),
    )
    around = Context() if parent is None else api.set_span_in_context(api.NonRecordingSpan(parent), Context())
    return provider.get_tracer("tests").start_span(name, around, attributes=attributes)
