"""The table of what is fuzzed: each target is a function of bytes that raises if a promise is not kept.

A promise is more than not to crash: only the documented exceptions come out, what was read can be written and read
again, in pieces it is the same as at once, what is bounded stays so, and what is hidden cannot be seen.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple

from clew.formats import FORMATS
from tests.fuzz import of_control, of_events, of_files, of_headers, of_otlp, of_texts

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["CORPUS", "TARGETS", "Target", "corpus_of"]

CORPUS: Final = Path(__file__).parent / "corpus"


class Target(NamedTuple):
    """Something that reads what others wrote."""

    check: Callable[[bytes], None]
    what: str  # what is fuzzed, for people
    words: tuple[str, ...] = ()  # what its language is made of
    max_bytes: int = 2048


def _words(text: str, *more: str) -> tuple[str, ...]:
    return (*text.split(), *more)


_JSON: Final = _words(r'{ } [ ] : , " \u0000 \ud800 null true 1e999 -1 1e1000000 NaN', "\n")
_IDS: Final = ("4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7")
_OTLP_JSON: Final = (
    *_JSON,
    *_IDS,
    *_words(
        """"resourceSpans" "scopeSpans" "spans" "traceId" "spanId" "parentSpanId" "name" "kind" "attributes" "key"
        "value" "stringValue" "intValue" "doubleValue" "boolValue" "bytesValue" "arrayValue" "kvlistValue" "values"
        "status" "code" "message" "events" "links" "flags" "traceState" "startTimeUnixNano" "endTimeUnixNano"
        "timeUnixNano" "resource" "scope" "schemaUrl" "droppedAttributesCount" """
    ),
)
_EVENTS: Final = _words(
    r"""CIRC CIRC_MINOR STREAM STREAM_BW HS_DESC ORCONN BUILDTIMEOUT_SET STATUS_CLIENT CIRC_BW LAUNCHED BUILT EXTENDED
    FAILED CLOSED NEW SENTCONNECT SUCCEEDED DETACHED REMAP PURPOSE=HS_CLIENT_REND HS_STATE=HSCR_JOINED REASON=TIMEOUT "
    \" BOOTSTRAP PROGRESS=100 $AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA~a REND_QUERY= SOURCE_ADDR=127.0.0.1:1
    SOCKS_PASSWORD= TIME_CREATED=2026-01-01T00:00:00.000001 CONFLUX_ID=1 TIMEOUT_MS= CUTOFF_QUANTILE=nan REPLICA=1
    NCIRCS=""",
    " ",
)
_TEXT: Final = _words(
    r"""% %25 \x2e \u002e &#46; http:// @ :// .onion .com xn-- = : 127.0.0.1 ::1 Bearer password= Cookie: -----BEGIN
    . / $AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA~a hash:0123456789abcdef""",
    *"\u00ad\u200b\u3002 ",
)
_GOTOR: Final = _words('"TraceID" "SpanID" "ParentID" "StartTime" "EndTime" "Duration" "Attributes" "Events" "Kind"')
_FILE_WORDS: Final[dict[str, tuple[str, ...]]] = {
    "jsonl": (*_OTLP_JSON, *_GOTOR),
    "gotor": (*_JSON, *_GOTOR),
    "zipkin": _words(
        '"traceId" "id" "parentId" "timestamp" "duration" "tags" "annotations" "localEndpoint" "value"', *_JSON, *_IDS
    ),
    "jaeger": _words(
        '"data" "traceID" "spanID" "spans" "references" "refType" "tags" "logs" "processes" "processID"', *_JSON, *_IDS
    ),
    "chrome": _words(
        '"traceEvents" "ph" "X" "B" "E" "b" "n" "e" "ts" "dur" "pid" "tid" "id" "cat" "args" "s"', *_JSON, *_IDS
    ),
    "csv": _words(
        """trace_id span_id name start_time end_time kind status attributes , "" ' ; 2026-01-01T00:00:00Z""",
        "\r\n",
        *_IDS,
    ),
}


TARGETS: Final[dict[str, Target]] = {
    # --- between processes, and with receivers
    "propagation": Target(
        of_headers.check_propagation,
        "traceparent, tracestate and baggage: `extract` and `inject`",
        _words("00- -01 , = ; % %25 ff- @", *_IDS),
    ),
    "b3": Target(of_headers.check_b3, "B3 headers, one or several", _words("-1 -d - 0 1 true TRUE", *_IDS)),
    "http-reply": Target(
        of_headers.check_http_reply,
        "HTTP/1.1 responses, and what OTLP makes of them",
        _words(
            "HTTP/1.1 HTTP/1.0 200 429 100 101 204 304 : Content-Length:5 Transfer-Encoding:chunked 5;x "
            "Connection:close Retry-After:7",
            *("\r\n", "\r\n\r\n", "0\r\n\r\n"),
        ),
    ),
    "otlp-answer": Target(
        of_headers.check_answers,
        "OTLP's answers in protobuf and JSON, Retry-After, google.rpc.Status of gRPC",
        _words(
            '{"partialSuccess": "rejectedSpans" "errorMessage" "message" GMT Sun, 06 Nov 1994 08:49:37 1e999',
            "type.googleapis.com/google.rpc.RetryInfo",
        ),
    ),
    "environment": Target(
        of_headers.check_environment,
        "OTEL_... variables: endpoints, headers, numbers, samplers, resource attributes",
        _words(
            "http:// https:// grpc :4318 [::1] = , % %0a ?key= @ traceidratio parentbased_ true nan 1e400 gzip",
            "0000000000000001",
            "\n",
        ),
    ),
    "options": Target(
        of_headers.check_options,
        "values of the command line's options",
        _words("10m 1d 2026-01-31T03:00 Z nan inf 1e400 lab * ? [ ] [!"),
    ),
    # --- OTLP
    "otlp-protobuf": Target(of_otlp.check_traces, "OTLP protobuf to records (native), compared with the official one"),
    "otlp-spans": Target(
        of_otlp.check_spans, "spans of a queue to records and to JSON, by scope, kept or not (native)"
    ),
    "otlp-json": Target(of_otlp.check_json, "OTLP/JSON to records", _OTLP_JSON),
    # --- files
    "file": Target(
        of_files.check_any_file,
        "files whose format is to be found out",
        (*_OTLP_JSON, '"TraceID"', '"traceID"', '"traceEvents"', '"data"', "trace_id,span_id"),
    ),
    **{
        f"file-{name}": Target(
            partial(of_files.check_file, name), f"files: {form.description}", _FILE_WORDS.get(name, _JSON)
        )
        for name, form in FORMATS.items()
        if form.reader
    },
    "file-parquet": Target(of_files.check_parquet, "files: Parquet", ("PAR1",), 8192),
    "file-written": Target(of_files.check_written, "every format that is written: the spans come back"),
    "compression": Target(of_files.check_compressed, "gzip and xz: torn, in members, bombs", max_bytes=4096),
    "torn-line": Target(of_files.check_torn, "a trace file's torn last line", _JSON),
    "rotation": Target(
        of_files.check_rotation,
        "names of files that were put aside",
        _words("t. .jsonl .gz .tmp 2026-01-31T03-00-00.123456Z", "\n"),
    ),
    # --- tor
    "control-wire": Target(
        of_control.check_wire,
        "replies of the control port",
        _words("650 650- 650+ 250 . .. 250-a= 650-CIRC", "\r\n", "\r\n.\r\n", " "),
    ),
    "control-commands": Target(
        of_control.check_commands,
        "commands for the control port; quoted strings",
        _words(r'" \" \n \101 \\ = \8', "\r", "\n", "\0", " "),
    ),
    "authentication": Target(
        of_control.check_authentication,
        "PROTOCOLINFO, AUTHCHALLENGE and what a hostile peer answers",
        _words(
            "250-PROTOCOLINFO 250-AUTH METHODS= NULL COOKIE SAFECOOKIE HASHEDPASSWORD COOKIEFILE= VERSION Tor= "
            "SERVERHASH= SERVERNONCE= AUTHCHALLENGE",
            *("250 OK\r\n", "\r\n", " "),
        ),
    ),
    "consensus": Target(
        of_control.check_consensus,
        "router status entries",
        _words("r s w Bandwidth= Exit Guard AAAAAAAAAAAAAAAAAAAAAAAAAAA", "\n", " "),
    ),
    "addresses": Target(
        of_control.check_addresses,
        "addresses of control and SOCKS ports, destinations that may be told of a trace",
        _words(r"unix: [::1]:9051 127.0.0.1: localhost: :9050 http:// abcdefgh.onion @ \ # ? % 0.0.0.0: ::ffff: %lo"),
    ),
    "connections": Target(of_control.check_connections, "the program's connections to tor, joined to streams"),
    "first-bytes": Target(of_control.check_first_bytes, "connections that are watched (native)"),
    "http-client": Target(
        of_control.check_http_client,
        "http.client's requests, to which a header is added",
        ("GET ", "/ ", "HTTP/1.1", "traceparent:", "\n"),
    ),
    "tor-event": Target(of_events.check_event, "tor's events, each type; credentials are cut out", _EVENTS),
    "tor-mapper": Target(of_events.check_mapper, "tor's events in any order to spans, by all state machines", _EVENTS),
    "tor-log": Target(
        of_events.check_log,
        "recordings and logs of OnionPerf's monitor, and their replay",
        _words(
            "clew-tor-recording BEGIN END LINES 1769860800000000000 1548934191.14 650 650- 650+",
            *("\n", "\n.\n", *_EVENTS),
        ),
    ),
    "tor-recorded": Target(
        of_events.check_recorded, "events as a recording has them, read again", (*_EVENTS, "650+", "650-", "\r\n.\r\n")
    ),
    # --- what is told, and shown
    "search": Target(of_texts.check_search, "secrets in texts, found whatever stands around them", _TEXT),
    "scrub": Target(of_texts.check_scrubbed, "spans with secrets in them, at each level", _TEXT),
    "places": Target(of_texts.check_places, "names of hosts and relays, their hashes", _TEXT),
    "escape": Target(
        of_texts.check_escapes, "texts for terminals and for HTML", (*"<>&\"' ", "\x1b[0m", "\u202e", "\u2028")
    ),
    "pictures": Target(of_texts.check_pictures, "spans of OTLP/JSON, drawn", _OTLP_JSON),
}


def corpus_of(name: str) -> list[Path]:
    """The files of a target, in the order of their names."""
    return sorted((CORPUS / name).glob("*"))
