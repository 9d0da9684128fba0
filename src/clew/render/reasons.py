"""Why a span failed, in the words that it carries."""

from __future__ import annotations

from typing import TYPE_CHECKING

from clew.model import Status

if TYPE_CHECKING:
    from clew.model import Event, SpanRecord

__all__ = ["find_reason", "is_reason"]

# Names of events that carry an error: OpenTelemetry's and go-tor's.
_ERROR_EVENTS = ("exception", "error")


def find_reason(record: SpanRecord) -> str:
    """The kind of error and what was said about it, as "type: message"; "" if the span does not say.

    Both are looked for on the span first, then in the last error that it recorded. The text is not escaped.
    """
    if record.status not in (Status.ERROR, Status.CANCELLED):
        return ""
    attributes = next((event.attributes for event in reversed(record.events) if is_reason(event)), {})
    kind = record.attributes.get("error.type") or attributes.get("exception.type") or attributes.get("error.type")
    message = record.status_description or attributes.get("exception.message") or attributes.get("error.message")
    words = [str(word) for word in (kind, message) if word]
    if len(words) == 2 and words[1].startswith(words[0]):
        words.pop(0)
    return ": ".join(words)


def is_reason(event: Event) -> bool:
    """Whether an event records an error."""
    return event.name in _ERROR_EVENTS
