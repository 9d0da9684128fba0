"""What a receiver's answer means: delivered, in part, not now, or never. Bytes in, values out.

Source: OTLP specification 1.9, "OTLP/gRPC Response", "OTLP/HTTP Response"; RFC 9110, sections 5.6.7 and 10.2.3.
"""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime
from enum import Enum
from typing import TYPE_CHECKING, Any, NamedTuple

from clew.limits import OTLP_TEXT_CHARACTERS
from clew.pretty import escape

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from clew.exporters._http_reply import Reply

__all__ = ["Answer", "Verdict", "http_answer", "http_date", "http_phrase", "partial_answer", "quoted", "retry_delay"]


class Verdict(Enum):
    """What to do with the spans."""

    DELIVERED = "delivered"  # all, or all but those rejected; never to be sent again
    LATER = "later"  # send them again after a while
    NEVER = "never"  # sending them again cannot help


class Answer(NamedTuple):
    """What became of a request."""

    verdict: Verdict
    text: str = ""  # what there is to say of it, on one line; it may quote the receiver
    rejected: int = 0  # spans of a request that was delivered
    wait: float | None = None  # seconds, if the receiver says how long


# --- HTTP ------------------------------------------------------------------------------------------------------------

_LATER_STATUSES = (429, 502, 503, 504)  # "Retryable Response Codes"; any other 4xx and 5xx must not be retried
_PHRASES = {
    400: "Bad Request",
    401: "Unauthorized",
    403: "Forbidden",
    404: "Not Found",
    405: "Method Not Allowed",
    413: "Content Too Large",
    415: "Unsupported Media Type",
    429: "Too Many Requests",
    500: "Internal Server Error",
    501: "Not Implemented",
    502: "Bad Gateway",
    503: "Service Unavailable",
    504: "Gateway Timeout",
}


def http_phrase(status: int) -> str:
    """The status in words that are ours, such as "404 Not Found"."""
    return f"{status} {_PHRASES.get(status, '')}".strip()


def http_answer(reply: Reply, now: datetime) -> Answer:
    """What an HTTP response means.

    Args:
        now: the time by our own clock, in UTC, for a Retry-After that names a time while the response names none.
    """
    status, headers = reply.status, reply.headers
    readable = headers.get("content-encoding", "identity").lower() == "identity"
    as_json = headers.get("content-type", "").partition(";")[0].strip().lower() == "application/json"
    if 200 <= status < 300:
        if not reply.whole or not readable:
            # It took them, that much is said. To send them again would be to send them twice.
            return Answer(Verdict.DELIVERED, f"it answered {status}, but not readably whether it rejected any")
        return partial_answer(reply.body, as_json=as_json)
    text = f"it answered {http_phrase(status)}"
    if 300 <= status < 400:
        place = headers.get("location")
        # Not followed: the headers may hold keys that are meant for this receiver only.
        return Answer(Verdict.NEVER, text + (f", and that it is at {quoted(place)}" if place else ""))
    if readable and (message := _error_message(reply.body, headers, as_json=as_json)):
        text += f": {quoted(message)}"
    if status in _LATER_STATUSES:
        return Answer(Verdict.LATER, text, wait=_retry_after(headers, now))
    return Answer(Verdict.NEVER, text)


def _error_message(body: bytes, headers: Mapping[str, str], *, as_json: bool) -> str:
    """Of a google.rpc.Status; or the text of a receiver that has none."""
    content_type = headers.get("content-type", "").lower()
    try:
        if as_json:
            message = _object(json.loads(body)).get("message")
            return message if isinstance(message, str) else ""
        if content_type.startswith("application/x-protobuf"):
            return _text(dict(_fields(body)).get(2))
        if content_type.startswith("text/plain"):
            return body.decode("utf-8", "replace")
    except (ValueError, RecursionError):
        pass  # the status has said what matters
    return ""


def _retry_after(headers: Mapping[str, str], now: datetime) -> float | None:
    text = headers.get("retry-after", "").strip()
    if text.isascii() and text.isdigit():
        return float(text[:12])
    until = http_date(text)
    if until is None:
        return None
    # By the receiver's own clock, if it shows it: ours may be wrong.
    since = http_date(headers.get("date", "")) or now
    return max((until - since).total_seconds(), 0.0)


_MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
_TIME = r"(?P<hour>\d\d):(?P<minute>\d\d):(?P<second>\d\d)"
_DATES = (
    re.compile(rf"[a-z]+, (?P<day>\d\d)[ -](?P<month>[a-z]{{3}})[ -](?P<year>\d{{2}}|\d{{4}}) {_TIME} gmt"),
    re.compile(rf"[a-z]{{3}} (?P<month>[a-z]{{3}}) (?P<day>[ \d]\d) {_TIME} (?P<year>\d{{4}})"),  # asctime
)


def http_date(text: str) -> datetime | None:
    """A date of HTTP, in any of the three forms that a recipient must accept; None if it is none."""
    text = text.strip().lower()
    if not text.isascii():
        return None
    match = next(filter(None, (form.fullmatch(text) for form in _DATES)), None)
    if match is None or match["month"] not in _MONTHS:
        return None
    year = int(match["year"])
    if year < 100:
        year += 2000 if year < 70 else 1900
    clock = int(match["hour"]), int(match["minute"]), min(int(match["second"]), 59)  # 60 is a leap second
    try:
        return datetime(year, _MONTHS.index(match["month"]) + 1, int(match["day"]), *clock, tzinfo=UTC)
    except ValueError:
        return None


# --- both ------------------------------------------------------------------------------------------------------------


def partial_answer(body: bytes, *, as_json: bool) -> Answer:
    """An ExportTraceServiceResponse: delivered, as far as it does not say otherwise."""
    if not body:  # an empty message, as nearly all are
        return Answer(Verdict.DELIVERED)
    try:
        rejected, message = _partial_json(body) if as_json else _partial_protobuf(body)
    except (ValueError, RecursionError):
        # Not OTLP; but it said that it took them.
        return Answer(Verdict.DELIVERED)
    rejected = max(rejected, 0)
    if not rejected and not message:
        return Answer(Verdict.DELIVERED)
    text = f"it rejected {rejected}" if rejected else "it took them, with a warning"
    return Answer(Verdict.DELIVERED, text + (f": {quoted(message)}" if message else ""), rejected)


def _partial_protobuf(body: bytes) -> tuple[int, str]:
    partial = dict(_fields(_bytes(dict(_fields(body)).get(1))))
    rejected = partial.get(1, 0)
    if not isinstance(rejected, int):
        raise ValueError  # noqa: TRY004 - of the bytes
    return rejected - 2**64 if rejected >= 2**63 else rejected, _text(partial.get(2))


def _partial_json(body: bytes) -> tuple[int, str]:
    partial = _object(_object(json.loads(body)).get("partialSuccess", {}))
    rejected, message = partial.get("rejectedSpans", 0), partial.get("errorMessage", "")
    return int(rejected) if isinstance(rejected, (int, str)) else 0, message if isinstance(message, str) else ""


def retry_delay(status: bytes) -> float | None:
    """Seconds that the RetryInfo of a google.rpc.Status asks to wait (grpc-status-details-bin); None without one."""
    try:
        for number, detail in _fields(status):
            if number != 3:
                continue
            packed = dict(_fields(_bytes(detail)))
            if _text(packed.get(1)).endswith("google.rpc.RetryInfo"):
                delay = dict(_fields(_bytes(dict(_fields(_bytes(packed.get(2)))).get(1))))
                seconds, nanos = delay.get(1, 0), delay.get(2, 0)
                if isinstance(seconds, int) and isinstance(nanos, int) and seconds < 2**63 and nanos < 10**9:
                    return seconds + nanos / 1e9
    except ValueError:
        pass
    return None


# --- protobuf, a little of it ----------------------------------------------------------------------------------------


def _fields(data: bytes) -> Iterator[tuple[int, int | bytes]]:
    """The fields of a message in their order: numbers as uint64, everything else as bytes. Raises ValueError."""
    at = 0
    while at < len(data):
        tag, at = _varint(data, at)
        number, wire_type = tag >> 3, tag & 7
        if wire_type == 0:
            value, at = _varint(data, at)
            yield number, value
            continue
        if wire_type == 2:
            size, at = _varint(data, at)
        elif wire_type in (1, 5):
            size = 8 if wire_type == 1 else 4
        else:
            raise ValueError("a field of no known type")
        if size > len(data) - at:
            raise ValueError("a field that is cut off")
        yield number, data[at : at + size]
        at += size


def _varint(data: bytes, at: int) -> tuple[int, int]:
    value = 0
    for shift in range(0, 70, 7):
        if at >= len(data):
            break
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value & 0xFFFF_FFFF_FFFF_FFFF, at
    raise ValueError("a number without an end")


def _bytes(value: int | bytes | None) -> bytes:
    if isinstance(value, int):
        raise ValueError("a number where a message must be")  # noqa: TRY004 - of the bytes
    return value or b""


def _text(value: int | bytes | None) -> str:
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else ""


def _object(value: Any) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise ValueError("not an object")  # noqa: TRY004 - of the bytes
    return value


def quoted(text: str) -> str:
    """What the network says, fit for a log."""
    if len(text) > OTLP_TEXT_CHARACTERS:
        text = text[:OTLP_TEXT_CHARACTERS] + "..."
    return f'"{escape(text.strip())}"'
