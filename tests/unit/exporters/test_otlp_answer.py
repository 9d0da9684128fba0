"""What a receiver's answer means."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime, parsedate_to_datetime
from typing import Any

import pytest
from google.protobuf.any_pb2 import Any as AnyMessage
from google.protobuf.duration_pb2 import Duration
from google.rpc.error_details_pb2 import BadRequest, RetryInfo  # type: ignore[import-untyped]
from google.rpc.status_pb2 import Status  # type: ignore[import-untyped]
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTracePartialSuccess,
    ExportTraceServiceResponse,
)

from clew.exporters._http_reply import Reply
from clew.exporters._otlp_answer import Answer, Verdict, http_answer, http_date, partial_answer, retry_delay

NOW = datetime(2026, 11, 22, 12, 0, 0, tzinfo=UTC)
DELIVERED, LATER, NEVER = Verdict.DELIVERED, Verdict.LATER, Verdict.NEVER


def answer(status: int = 200, body: bytes = b"", whole: bool = True, **headers: str) -> Answer:
    names = {name.replace("_", "-"): value for name, value in headers.items()}
    return http_answer(Reply(status, names, body, whole, True), NOW)


def response(rejected: int, message: str = "") -> bytes:
    partial = ExportTracePartialSuccess(rejected_spans=rejected, error_message=message)
    return ExportTraceServiceResponse(partial_success=partial).SerializeToString()


# --- HTTP ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("status", range(200, 600))
def test_only_four_statuses_are_worth_another_try(status: int) -> None:
    """Scenario 23: 429, 502, 503 and 504; everything below 300 is success, everything else final."""
    expected = DELIVERED if status < 300 else LATER if status in (429, 502, 503, 504) else NEVER
    assert answer(status).verdict is expected


@pytest.mark.parametrize(
    ("headers", "wait"),
    [
        ({}, None),
        ({"retry-after": "7"}, 7.0),
        ({"retry-after": " 0 "}, 0.0),
        ({"retry-after": "9" * 4000}, 999999999999.0),
        ({"retry-after": "-1"}, None),
        ({"retry-after": "1.5"}, None),
        ({"retry-after": "soon"}, None),
        ({"retry-after": "Sun, 22 Nov 2026 12:00:30 GMT"}, 30.0),
        ({"retry-after": "Sun, 22 Nov 2026 11:00:30 GMT"}, 0.0),
        # By the receiver's clock, which is ten minutes ahead of ours.
        ({"retry-after": "Sun, 22 Nov 2026 12:10:30 GMT", "date": "Sun, 22 Nov 2026 12:10:00 GMT"}, 30.0),
        ({"retry-after": "Sun, 22 Nov 2026 12:00:30 GMT", "date": "yesterday"}, 30.0),
    ],
)
def test_retry_after(headers: dict[str, str], wait: float | None) -> None:
    """Both forms; what is none counts as absent."""
    assert http_answer(Reply(503, headers, b"", True, True), NOW).wait == wait


def test_words_of_an_error() -> None:
    """A google.rpc.Status in either encoding, or plain text; escaped and cut."""
    status = Status(code=3, message="no \x1b[31mspans").SerializeToString()
    expected = 'it answered 400 Bad Request: "no \\x1b[31mspans"'
    assert answer(400, status, content_type="application/x-protobuf") == Answer(NEVER, expected)
    as_json = json.dumps({"code": 3, "message": "no \x1b[31mspans"}).encode()
    assert answer(400, as_json, content_type="application/json; charset=utf-8") == Answer(NEVER, expected)
    assert answer(400, b"no \x1b[31mspans\n", content_type="text/plain") == Answer(NEVER, expected)
    assert len(answer(400, b"x" * 100_000, content_type="text/plain").text) < 250
    for content_type in ("text/html", "application/json", "application/x-protobuf"):
        assert answer(418, b"<html>", content_type=content_type) == Answer(NEVER, "it answered 418")


def test_a_redirect_is_not_followed() -> None:
    """It says where the receiver is."""
    moved = answer(308, location="https://elsewhere/v1/traces\x07")
    assert moved == Answer(NEVER, 'it answered 308, and that it is at "https://elsewhere/v1/traces\\x07"')
    assert answer(302).verdict is NEVER


def test_an_answer_that_cannot_be_read_is_a_delivery() -> None:
    """200 says that the spans were taken: to send them again would be to send them twice."""
    said = "it answered 200, but not readably whether it rejected any"
    assert answer(200, response(5)[:3], whole=False) == Answer(DELIVERED, said)
    assert answer(200, b"\x1f\x8b", content_encoding="gzip") == Answer(DELIVERED, said)


# --- partial success -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("rejected", "message", "expected"),
    [
        (0, "", Answer(DELIVERED)),
        (3, "", Answer(DELIVERED, "it rejected 3", 3)),
        (3, "too\nold", Answer(DELIVERED, 'it rejected 3: "too\\nold"', 3)),
        (0, "slow down", Answer(DELIVERED, 'it took them, with a warning: "slow down"')),
        (-3, "", Answer(DELIVERED)),
    ],
)
def test_partial_success(rejected: int, message: str, expected: Answer) -> None:
    """Scenario 22: the number of rejected spans is read, from protobuf and from both forms in JSON."""
    assert partial_answer(response(rejected, message), as_json=False) == expected
    for number in (rejected, str(rejected)):
        body = {"partialSuccess": {"rejectedSpans": number, "errorMessage": message}}
        assert partial_answer(json.dumps(body).encode(), as_json=True) == expected


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{}",
        b'{"partialSuccess":null}',
        b'{"partialSuccess":{"rejectedSpans":"many"}}',
        b"[]",
        b"OK",
        b"[" * 100_000,
    ],
)
def test_success_without_otlp(body: bytes) -> None:
    """A receiver that says nothing, or something else, took all."""
    assert partial_answer(body, as_json=True) == Answer(DELIVERED)


@given(st.binary(max_size=40), st.booleans(), st.integers(200, 599), st.booleans())
def test_any_body(body: bytes, as_json: bool, status: int, whole: bool) -> None:
    """Whatever stands in an answer, it means something."""
    content_type = "application/json" if as_json else "application/x-protobuf"
    found = answer(status, body, whole, content_type=content_type)
    assert found.text.isprintable()
    assert found.rejected >= 0


@given(
    st.builds(
        ExportTraceServiceResponse,
        partial_success=st.builds(
            ExportTracePartialSuccess, rejected_spans=st.integers(0, 2**63 - 1), error_message=st.text(max_size=20)
        ),
    )
)
def test_it_reads_what_protobuf_writes(message: ExportTraceServiceResponse) -> None:
    """Every response of the official messages."""
    found = partial_answer(message.SerializeToString(), as_json=False)
    assert found.rejected == message.partial_success.rejected_spans


# --- gRPC ------------------------------------------------------------------------------------------------------------


def status_with(*details: Any) -> bytes:
    packed = []
    for detail in details:
        packed.append(AnyMessage())
        packed[-1].Pack(detail)
    status: bytes = Status(code=14, message="later", details=packed).SerializeToString()
    return status


def test_retry_info() -> None:
    """The RetryInfo among the details of a status says how long to wait."""
    info = RetryInfo(retry_delay=Duration(seconds=3, nanos=500_000_000))
    assert retry_delay(status_with(BadRequest(), info)) == 3.5
    assert retry_delay(status_with(RetryInfo())) == 0.0
    assert retry_delay(status_with(RetryInfo(retry_delay=Duration(seconds=-1)))) is None
    assert retry_delay(status_with(BadRequest())) is None
    assert retry_delay(b"\xff") is None


@given(st.binary(max_size=40))
def test_any_status(status: bytes) -> None:
    """Whatever bytes come as details."""
    wait = retry_delay(status)
    assert wait is None or wait >= 0


# --- dates -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text",
    ["Sun, 06 Nov 1994 08:49:37 GMT", "Sunday, 06-Nov-94 08:49:37 GMT", "Sun Nov  6 08:49:37 1994"],
)
def test_dates(text: str) -> None:
    """The three forms of RFC 9110, section 5.6.7, with its own example."""
    assert http_date(text) == datetime(1994, 11, 6, 8, 49, 37, tzinfo=UTC)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "Sun, 06 Nov 1994 08:49:37 +0100",
        "Sun, 31 Feb 1994 08:49:37 GMT",
        "Sun, 06 Noo 1994 08:49:37 GMT",
        "Sun, 06 Nov 1994 24:49:37 GMT",
        "Sun, ٠٦ Nov 1994 08:49:37 GMT",
    ],
)
def test_what_is_no_date(text: str) -> None:
    """None, and no error."""
    assert http_date(text) is None


@given(st.datetimes(datetime(1970, 1, 1), datetime(2069, 12, 31)))  # noqa: DTZ001 - the next line makes them UTC
def test_every_date(date: datetime) -> None:
    """What Python's email package writes and reads."""
    date = date.replace(tzinfo=UTC)
    text = format_datetime(date, usegmt=True)
    assert http_date(text) == parsedate_to_datetime(text)
    assert http_date(text) == date - timedelta(microseconds=date.microsecond)
    assert http_date(date.strftime("%A, %d-%b-%y %H:%M:%S GMT")) == http_date(text)


@given(st.text(max_size=30))
def test_any_text_as_a_date(text: str) -> None:
    """A date, or none."""
    http_date(text)
