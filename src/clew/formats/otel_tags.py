"""What OTLP has fields for and other formats have not, as attributes, by the names that OpenTelemetry gave them.

Source: OpenTelemetry specification, "Transformation to non-OTLP Formats"; for `w3c.tracestate`, which that does not
mention, the translators of the OpenTelemetry collector.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

from clew.model import Scope, Status

if TYPE_CHECKING:
    from collections.abc import Callable

    from clew.formats.writing import Losses
    from clew.model import Attributes, AttributeValue, SpanRecord

__all__ = [
    "DROPPED_ATTRIBUTES",
    "STATUS_CODE",
    "Untagged",
    "is_cancelled",
    "status_of_code",
    "tags_of",
    "take_cancelled",
    "untag",
]

STATUS_CODE: Final = "otel.status_code"
_SCOPE_NAME: Final = "otel.scope.name"
_SCOPE_VERSION: Final = "otel.scope.version"
# What the same were called before 2022; the specification wants readers to know them still.
_OLD_NAMES: Final = {_SCOPE_NAME: "otel.library.name", _SCOPE_VERSION: "otel.library.version"}
_TRACE_STATE: Final = "w3c.tracestate"
DROPPED_ATTRIBUTES: Final = "otel.dropped_attributes_count"
_DROPPED: Final = (DROPPED_ATTRIBUTES, "otel.dropped_events_count", "otel.dropped_links_count")
_CLEW_STATUS: Final = "clew.status"  # see model.Status
_CANCELLED: Final = "cancelled"
_NAMES: Final = frozenset((_SCOPE_NAME, _SCOPE_VERSION, *_OLD_NAMES.values(), _TRACE_STATE, *_DROPPED))

_STATUSES: Final = {"OK": Status.OK, "ERROR": Status.ERROR, "UNSET": Status.UNSET}


def tags_of(
    record: SpanRecord,
    losses: Losses,
    is_taken: Callable[[str], bool],
    *,
    with_resource: bool = False,
    with_cancelled: bool = False,
) -> dict[str, AttributeValue]:
    """A span's attributes, and what else of it must become attributes.

    Args:
        losses: where is counted what cannot.
        is_taken: tells the names that the format gives a meaning of its own, so that attributes cannot have them.
        with_resource: its attributes too, but for service.name; the span's own come before them.
        with_cancelled: the status CANCELLED too.
    """
    tags: dict[str, AttributeValue] = {}
    if with_resource:
        own = record.attributes
        for key, value in record.resource.attributes.items():
            if key == "service.name":
                continue
            if key in own or key in _NAMES or key == _CLEW_STATUS or is_taken(key):
                losses.add("attribute of a resource, whose name is taken in the span")
            else:
                tags[key] = value
        if tags:
            losses.add("span with its resource's attributes among its own (the format has no place for resources)")
    means_cancelled = with_cancelled and record.status is Status.ERROR and is_cancelled(record.attributes)
    for key, value in record.attributes.items():
        if key in _NAMES or is_taken(key) or (key == _CLEW_STATUS and means_cancelled):
            losses.add("attribute with a name that means something else in the format")
        else:
            tags[key] = value
    scope = record.scope
    if scope.name:
        tags[_SCOPE_NAME] = scope.name
    if scope.version:
        tags[_SCOPE_VERSION] = scope.version
    losses.add("attribute of a scope (the format has no place for it)", len(scope.attributes))
    losses.add("schema URL", bool(scope.schema_url))
    if record.trace_state:
        tags[_TRACE_STATE] = record.trace_state
    counts = (record.dropped_attributes, record.dropped_events, record.dropped_links)
    tags.update({name: count for name, count in zip(_DROPPED, counts, strict=True) if count})
    if with_cancelled and record.status is Status.CANCELLED:
        tags[_CLEW_STATUS] = _CANCELLED
    return tags


class Untagged(NamedTuple):
    """What was told in attributes."""

    scope: Scope
    trace_state: str
    dropped_attributes: int
    dropped_events: int
    dropped_links: int


_NOTHING: Final = Untagged(Scope(), "", 0, 0, 0)


def untag(attributes: dict[str, AttributeValue]) -> Untagged:
    """Take out of the attributes what `tags_of` put there, except for CANCELLED; what cannot be that stays."""
    if _NAMES.isdisjoint(attributes):
        return _NOTHING
    name, version = (_take_text(attributes, key) for key in _OLD_NAMES)
    state = _take_text(attributes, _TRACE_STATE)
    return Untagged(Scope(name, version), state, *(_take_count(attributes, key) for key in _DROPPED))


def is_cancelled(attributes: Attributes) -> bool:
    """Whether the attributes of a span whose status is ERROR say that it was cancelled."""
    return attributes.get(_CLEW_STATUS) == _CANCELLED


def take_cancelled(attributes: dict[str, AttributeValue]) -> Status:
    """CANCELLED, taken out of the attributes of a span whose status is ERROR, if it is there; else ERROR."""
    if not is_cancelled(attributes):
        return Status.ERROR
    del attributes[_CLEW_STATUS]
    return Status.CANCELLED


def status_of_code(code: AttributeValue) -> Status | None:
    """The status that otel.status_code tells: "OK", or as other tools write it, "Ok" or "STATUS_CODE_OK"."""
    return _STATUSES.get(code.upper().removeprefix("STATUS_CODE_")) if isinstance(code, str) else None


def _take_text(attributes: dict[str, AttributeValue], key: str) -> str:
    old = _OLD_NAMES.get(key)
    if key not in attributes and old is not None:
        key, old = old, None
    value = attributes.get(key)
    if not isinstance(value, str):
        return ""
    del attributes[key]
    if old is not None and attributes.get(old) == value:  # told twice, as the specification wants it
        del attributes[old]
    return value


def _take_count(attributes: dict[str, AttributeValue], key: str) -> int:
    value = attributes.get(key)
    count = (
        int(value) if isinstance(value, str) and value.isascii() and value.isdecimal() and len(value) < 11 else value
    )
    if type(count) is not int or count < 0 or count >> 32:
        return 0
    del attributes[key]
    return count
