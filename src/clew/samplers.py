"""Samplers: the native ones, and those that are made of others.

A sampler is asked once per trace, when its first span in this process begins. A trace that comes from another process
keeps the decision made there, and no sampler is asked, except where there is a `ParentSample`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from clew._hot import AlwaysSample, NeverSample, ProbabilitySample, RateLimitSample
from clew.errors import ConfigurationError
from clew.protocols import check_sampler

if TYPE_CHECKING:
    from collections.abc import Mapping

    from clew.model import Attributes, SpanContext, SpanKind
    from clew.protocols import Sampler

__all__ = [
    "AllOf",
    "AlwaysSample",
    "AnyOf",
    "ByName",
    "NeverSample",
    "ParentSample",
    "ProbabilitySample",
    "RateLimitSample",
]


class _Composite:
    """A sampler made of others.

    `decides_remote` says whether the tracer asks it about traces that come from another process too.
    """

    def __init__(self, *parts: Sampler) -> None:
        self._parts = tuple(check_sampler(part) for part in parts)
        if any(hasattr(part, "make_stage") for part in self._parts):
            raise ConfigurationError(
                f"TailSample decides when a trace has ended: it cannot be a part of {type(self).__name__}."
            )
        self.decides_remote = any(_decides_remote(part) for part in self._parts)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({', '.join(map(repr, self._parts))})"


def _decides_remote(sampler: Sampler) -> bool:
    return bool(getattr(sampler, "decides_remote", False))


def _ask(
    sampler: Sampler, trace_id: str, name: str, kind: SpanKind, attributes: Attributes, parent: SpanContext | None
) -> bool:
    """Ask a part as a tracer would: about a trace from elsewhere only if it wants to be."""
    if parent is not None and not _decides_remote(sampler):
        return parent.is_sampled
    return sampler.should_sample(trace_id, name, kind, attributes, parent)


class ParentSample(_Composite):
    """Decides differently for traces that begin here and traces that come from another process.

    Args:
        root: asked about traces that begin here.
        remote_sampled: asked about traces that were sampled elsewhere; without it they are recorded.
        remote_not_sampled: asked about traces that were not sampled elsewhere; without it they are not recorded.

    Raises: ConfigurationError.
    """

    def __init__(
        self, root: Sampler, *, remote_sampled: Sampler | None = None, remote_not_sampled: Sampler | None = None
    ) -> None:
        super().__init__(root)
        self._root = root
        self._remote_sampled = None if remote_sampled is None else check_sampler(remote_sampled)
        self._remote_not_sampled = None if remote_not_sampled is None else check_sampler(remote_not_sampled)
        self.decides_remote = True

    def should_sample(
        self, trace_id: str, name: str, kind: SpanKind, attributes: Attributes, parent: SpanContext | None
    ) -> bool:
        if parent is None:
            return self._root.should_sample(trace_id, name, kind, attributes, None)
        sampler = self._remote_sampled if parent.is_sampled else self._remote_not_sampled
        if sampler is None:
            return parent.is_sampled
        return sampler.should_sample(trace_id, name, kind, attributes, parent)

    def __repr__(self) -> str:
        return (
            f"ParentSample({self._root!r}, remote_sampled={self._remote_sampled!r}, "
            f"remote_not_sampled={self._remote_not_sampled!r})"
        )


class AllOf(_Composite):
    """Records a trace if all of its samplers would.

    They are asked in their order until one says no: a RateLimitSample stands last, so that it spends none of its traces
    on what another leaves out.

    Args:
        samplers: at least one.

    Raises: ConfigurationError.
    """

    def __init__(self, *samplers: Sampler) -> None:
        if not samplers:
            raise ConfigurationError("AllOf takes at least one sampler: AllOf(AlwaysSample()).")
        super().__init__(*samplers)

    def should_sample(
        self, trace_id: str, name: str, kind: SpanKind, attributes: Attributes, parent: SpanContext | None
    ) -> bool:
        return all(_ask(part, trace_id, name, kind, attributes, parent) for part in self._parts)


class AnyOf(_Composite):
    """Records a trace if one of its samplers would. They are asked in their order until one says yes.

    Args:
        samplers: at least one.

    Raises: ConfigurationError.
    """

    def __init__(self, *samplers: Sampler) -> None:
        if not samplers:
            raise ConfigurationError("AnyOf takes at least one sampler: AnyOf(AlwaysSample()).")
        super().__init__(*samplers)

    def should_sample(
        self, trace_id: str, name: str, kind: SpanKind, attributes: Attributes, parent: SpanContext | None
    ) -> bool:
        return any(_ask(part, trace_id, name, kind, attributes, parent) for part in self._parts)


class ByName(_Composite):
    """Chooses a sampler by the name of the span that begins the trace.

    Args:
        rules: patterns as of a shell (`*`, `?`, `[...]`; case counts) and the sampler for what matches; the first that
            matches is asked.
        default: asked where none matches.

    Raises: ConfigurationError.
    """

    def __init__(self, rules: Mapping[str, Sampler], *, default: Sampler) -> None:
        if not all(isinstance(pattern, str) for pattern in rules):
            raise ConfigurationError('ByName takes patterns as str: ByName({"health*": NeverSample()}, default=...).')
        super().__init__(*rules.values(), default)
        # Here and not above: few programs need it, and `import clew` is to be quick.
        import re
        from fnmatch import translate

        self._rules = tuple((re.compile(translate(pattern)).match, sampler) for pattern, sampler in rules.items())
        self._default = default
        self._shown = f"ByName({dict(rules)!r}, default={default!r})"

    def should_sample(
        self, trace_id: str, name: str, kind: SpanKind, attributes: Attributes, parent: SpanContext | None
    ) -> bool:
        chosen = next((sampler for match, sampler in self._rules if match(name)), self._default)
        return _ask(chosen, trace_id, name, kind, attributes, parent)

    def __repr__(self) -> str:
        return self._shown
