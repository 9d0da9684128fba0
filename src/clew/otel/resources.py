"""Resources and instrumentation scopes, as readers of the SDK's spans know them.

Those of the SDK can be given instead; here are our own, so that the SDK need not be there.
"""

from __future__ import annotations

import json
import logging
import os
import warnings
from importlib.metadata import entry_points
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Mapping

    from clew.model import Attributes, AttributeValue

__all__ = ["InstrumentationScope", "Resource", "detected", "info_of"]

_EMPTY: Attributes = MappingProxyType({})
_log = logging.getLogger("clew.otel")


class Resource(NamedTuple):
    """What makes the spans."""

    attributes: Attributes = _EMPTY
    schema_url: str = ""

    def merge(self, other: Any) -> Resource:
        """Both together; what both have is the other's. Schemas that contradict each other: this one alone.

        Source: the OpenTelemetry specification, "Resource SDK", "Merge".
        """
        if self.schema_url and other.schema_url and self.schema_url != other.schema_url:
            _log.error("Resources of the schemas %s and %s cannot be merged.", self.schema_url, other.schema_url)
            return self
        return Resource({**self.attributes, **other.attributes}, self.schema_url or other.schema_url)

    def to_json(self, indent: int | None = 4) -> str:
        """As an object with `attributes` and `schema_url`."""
        return json.dumps(
            {"attributes": dict(self.attributes), "schema_url": self.schema_url}, indent=indent, default=repr
        )

    def __hash__(self) -> int:
        return hash((self.to_json(None), self.schema_url))


class InstrumentationScope(NamedTuple):
    """The library in whose name spans are made."""

    name: str
    version: str = ""
    schema_url: str = ""
    attributes: Attributes = _EMPTY

    def to_json(self, indent: int | None = 4) -> str:
        """As an object with its fields."""
        fields = self._asdict() | {"attributes": dict(self.attributes) or None}
        return json.dumps(fields, indent=indent, default=repr)

    def __eq__(self, other: object) -> bool:
        # Also one of the SDK's.
        mine = (self.name, self.version, self.schema_url, dict(self.attributes))
        try:
            theirs = (other.name, other.version, other.schema_url, dict(other.attributes or {}))  # type: ignore[attr-defined]
        except AttributeError:
            return NotImplemented
        return mine == theirs

    def __ne__(self, other: object) -> bool:
        return not self == other

    def __hash__(self) -> int:
        return hash((self.name, self.version, self.schema_url))


def info_of(scope: InstrumentationScope) -> Any:
    """The scope as the SDK's InstrumentationInfo, which exporters of old read; as it is, where there is no SDK."""
    try:
        from opentelemetry.sdk.util.instrumentation import InstrumentationInfo
    except ImportError:
        return scope
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        return InstrumentationInfo(scope.name, scope.version, scope.schema_url)


def detected(environ: Mapping[str, str] = os.environ) -> dict[str, AttributeValue]:
    """What the detectors find that OTEL_EXPERIMENTAL_RESOURCE_DETECTORS names, `*` for all that are installed.

    One that fails is told of in the log. `otel`, the variables themselves, is read by `clew.configure`.
    """
    asked = [name.strip() for name in environ.get("OTEL_EXPERIMENTAL_RESOURCE_DETECTORS", "").split(",")]
    found: dict[str, AttributeValue] = {}
    for name in asked:
        if name in ("", "otel"):
            continue
        group = "opentelemetry_resource_detector"
        points = entry_points(group=group) if name == "*" else entry_points(group=group, name=name)
        if not points:
            _log.warning("There is no resource detector %r.", name)
        for point in points:
            try:
                found.update(point.load()().detect().attributes)
            except Exception:  # noqa: BLE001 - it is somebody else's code
                _log.warning("The resource detector %r failed.", point.name, exc_info=True)
    return found
