"""W3C trace context level 2, clause by clause, on the wire: 41 cases, one for each of W3C's harness, in our own words.

The harness itself is `make interop HARNESS=DIR` (run_harness.py). Here as there a service is asked by HTTP, with
headers byte by byte as they stand, and calls back; what it sends then is what is looked at. The numbers are those of
the specification's sections.
"""

from __future__ import annotations

import json
import re
import socket
import subprocess
import sys
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from string import ascii_lowercase, digits
from typing import TYPE_CHECKING, NamedTuple

import pytest

from tests.interop.trace_context_service import Service

if TYPE_CHECKING:
    from collections.abc import Iterator

TRACE, OTHER, SPAN = "8a3c60f7d188f8fa79d48a391a778fa6", "0af7651916cd43dd8448eb211c80319c", "53ce929d0e0e4736"
PARENT = f"00-{TRACE}-{SPAN}-01"
TRACEPARENT = f"traceparent: {PARENT}"


class Exchange(NamedTuple):
    """What the service is asked with, and what its calls must say then."""

    lines: tuple[str, ...]  # headers, as on the wire
    continued: bool  # its trace is the caller's; otherwise one of its own
    state: str = ""  # of its tracestate, the members
    calls: int = 1
    flags: int = 0  # that must be set


def continues(*lines: str, state: str = "", calls: int = 1, flags: int = 0) -> Exchange:
    return Exchange(lines, True, state, calls, flags)


def begins(*lines: str, calls: int = 1) -> Exchange:
    return Exchange(lines, False, "", calls)


def parent(text: str) -> str:
    return f"traceparent: {text}"


def keeps(*lines: str, state: str) -> Exchange:
    """A tracestate that goes on with the trace."""
    return continues(TRACEPARENT, *lines, state=state)


def leaves_out(*lines: str) -> Exchange:
    """A tracestate that is wrong: it is dropped, and the traceparent holds (3.3)."""
    return continues(TRACEPARENT, *lines)


# A key of all that may stand in one (3.3.2.2.1), and a value of all that may stand in one (3.3.2.2.2).
KEY = ascii_lowercase + digits + "_-*/@"
VALUE = "".join(chr(code) for code in range(0x20, 0x7F) if chr(code) not in ",=")
MEMBERS = [f"member{number}=value{number}" for number in range(32)]

CASES: dict[str, list[Exchange]] = {
    # --- 3.2: traceparent ---
    "3.2 no headers: a trace begins": [begins()],
    "3.2 a traceparent alone is enough": [continues(TRACEPARENT)],
    "3.2 two traceparents are none": [
        begins(TRACEPARENT, parent(f"00-{OTHER}-{SPAN}-01")),
        begins(TRACEPARENT, TRACEPARENT),
    ],
    "3.2.1 other names are not its name": [
        begins(f"{name}: {PARENT}") for name in ("trace-parent", "trace.parent", "trace_parent")
    ],
    "3.2.1 its name in any case": [
        continues(f"{name}: {PARENT}") for name in ("TraceParent", "tRaCePaReNt", "TRACEPARENT")
    ],
    "3.2.2 version 00 ends with the flags": [begins(parent(PARENT + rest)) for rest in (".", "-", "-tomorrow", "0")],
    "3.2.4 a later version may go on behind a dash": [
        continues(parent(f"cc-{TRACE}-{SPAN}-01")),
        continues(parent(f"cc-{TRACE}-{SPAN}-01-tomorrow")),
        begins(parent(f"cc-{TRACE}-{SPAN}-01.tomorrow")),
    ],
    "3.2.2.1 version ff is forbidden": [begins(parent(f"ff-{TRACE}-{SPAN}-01"))],
    "3.2.2.1 a version is hex": [
        begins(parent(f"{version}-{TRACE}-{SPAN}-01")) for version in (".0", "0.", "xy", "AB")
    ],
    "3.2.2.1 a version is not longer": [begins(parent(f"{version}-{TRACE}-{SPAN}-01")) for version in ("000", "0000")],
    "3.2.2.1 a version is not shorter": [begins(parent(f"{version}-{TRACE}-{SPAN}-01")) for version in ("0", "")],
    "3.2.2.3 a trace id is not zero": [begins(parent(f"00-{'0' * 32}-{SPAN}-01"))],
    "3.2.2.3 a trace id is hex in lower case": [
        begins(parent(f"00-{trace}-{SPAN}-01")) for trace in (f".{TRACE[1:]}", f"{TRACE[:-1]}.", TRACE.upper())
    ],
    "3.2.2.3 a trace id is not longer": [
        begins(parent(f"00-{TRACE}0-{SPAN}-01")),
        begins(parent(f"00-0{TRACE}-{SPAN}-01")),
    ],
    "3.2.2.3 a trace id is not shorter": [begins(parent(f"00-{TRACE[1:]}-{SPAN}-01"))],
    "3.2.2.4 a parent id is not zero": [begins(parent(f"00-{TRACE}-{'0' * 16}-01"))],
    "3.2.2.4 a parent id is hex in lower case": [
        begins(parent(f"00-{TRACE}-{span}-01")) for span in (f".{SPAN[1:]}", f"{SPAN[:-1]}.", SPAN.upper())
    ],
    "3.2.2.4 a parent id is not longer": [begins(parent(f"00-{TRACE}-{SPAN}0-01"))],
    "3.2.2.4 a parent id is not shorter": [begins(parent(f"00-{TRACE}-{SPAN[1:]}-01"))],
    "3.2.2.5 flags are hex": [begins(parent(f"00-{TRACE}-{SPAN}-{flags}")) for flags in (".0", "0.", "0G")],
    "3.2.2.5 flags are not longer": [begins(parent(f"00-{TRACE}-{SPAN}-001"))],
    "3.2.2.5 flags are not shorter": [begins(parent(f"00-{TRACE}-{SPAN}-1"))],
    "3.2.2 white space around it is not part of it": [
        continues(f"traceparent:{before}{PARENT}{after}")
        for before in ("", " ", "\t", "\t ")
        for after in ("", " ", " \t")
    ],
    "3.2.2.5.2 that a trace id is random is passed on": [continues(parent(f"00-{TRACE}-{SPAN}-02"), flags=2)],
    # --- 3.3: tracestate ---
    "3.3 a tracestate without a traceparent is none": [begins("tracestate: a=1"), begins("tracestate: a=1,b=2")],
    "3.3 a tracestate goes on with the trace": [keeps("tracestate: a=1,b=2", state="a=1,b=2")],
    "3.3.1 other names are not its name": [leaves_out(f"{name}: a=1") for name in ("trace-state", "trace.state")],
    "3.3.1 its name in any case": [
        keeps(f"{name}: a=1", state="a=1") for name in ("TraceState", "tRaCeStAtE", "TRACESTATE")
    ],
    "3.3.2.1 it may be empty": [
        leaves_out("tracestate:"),
        keeps("tracestate: a=1", "tracestate:", state="a=1"),
        keeps("tracestate: ", "tracestate: a=1", state="a=1"),
        keeps("tracestate: a=1,,b=2,", state="a=1,b=2"),
    ],
    "3.3.3 several lines are one list, in their order": [
        keeps("tracestate: a=1,b=2", "TraceState: c=3", "tracestate: d=4,e=5", state="a=1,b=2,c=3,d=4,e=5")
    ],
    "3.3.2.2 a key that comes twice does no harm": [
        keeps("tracestate: a=1,a=1", state="a=1,a=1"),
        keeps("tracestate: a=1", "tracestate: a=2", state="a=1,a=2"),
    ],
    "3.3.2.2 all characters that are allowed": [
        keeps(f"tracestate: {key}={VALUE}", state=f"{key}={VALUE}")
        for key in (KEY, KEY[::-1].lstrip("@/*-_"), "0", "a")
    ],
    "3.3.2.2 white space around members": [
        keeps(f"tracestate:{space}a=1{space},{space}b=2{space}", state="a=1,b=2") for space in ("", " ", "\t", " \t ")
    ],
    "3.3.2.2.1 a key has no other characters": [
        leaves_out(f"tracestate: {member}") for member in ("a =1", "A=1", "a.b=1", "=1", "é=1", "a\x0b=1", "_a=1")
    ],
    "3.3.2.2.1 an at sign anywhere but at the beginning": [
        *(keeps(f"tracestate: {key}=1,b=2", state=f"{key}=1,b=2") for key in ("a@", "a@@c", "a@c@d", "1a@c")),
        leaves_out("tracestate: @a=1,b=2"),
    ],
    "3.3.2.1 up to 32 members": [
        keeps(*(f"tracestate: {','.join(MEMBERS[at : at + 10])}" for at in range(0, 32, 10)), state=",".join(MEMBERS)),
        leaves_out(*(f"tracestate: {','.join([*MEMBERS, 'b=1'][at : at + 10])}" for at in range(0, 33, 10))),
    ],
    "3.3.2.2.1 a key of up to 256 characters": [
        *(
            keeps("tracestate: a=1", f"tracestate: {key}=1", state=f"a=1,{key}=1")
            for key in ("k" * 256, "t" * 241 + "@" + "v" * 14, "t" * 242 + "@v", "t@" + "v" * 15)
        ),
        leaves_out("tracestate: a=1", f"tracestate: {'k' * 257}=1"),
    ],
    "3.3.2.2.2 a value has no equals sign, and is there": [
        leaves_out("tracestate: a=b=c"),
        leaves_out("tracestate: a=,b=3"),
    ],
    # --- 3.4: each call is a span of its own ---
    "3.4 three calls in the caller's trace": [continues(TRACEPARENT, calls=3)],
    "3.4 three calls in a trace that begins": [begins(calls=3)],
    "3.4 three calls after a traceparent that is wrong": [begins(parent(f"00-{'0' * 32}-{SPAN}-01"), calls=3)],
}


class Callbacks(ThreadingHTTPServer):
    """Whoever is called back: keeps the headers that came."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Callback)
        self.came: list[list[tuple[str, str]]] = []
        self.url = f"http://127.0.0.1:{self.server_address[1]}/callback"


class _Callback(BaseHTTPRequestHandler):
    server: Callbacks
    timeout = 30

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["content-length"]))
        self.server.came.append(self.headers.items())
        self.send_response(200)
        self.send_header("content-length", "0")
        self.end_headers()

    def log_message(self, format: str, *arguments: object) -> None:  # noqa: A002 - http.server's name
        """Nothing."""


@contextmanager
def listening() -> Iterator[Callbacks]:
    with Callbacks() as callbacks:
        thread = threading.Thread(target=callbacks.serve_forever, args=(0.05,))
        thread.start()
        try:
            yield callbacks
        finally:
            callbacks.shutdown()
            thread.join(30)


@pytest.fixture(scope="module")
def service() -> Iterator[Service]:
    with Service() as service:
        yield service


@pytest.fixture(scope="module")
def callbacks() -> Iterator[Callbacks]:
    with listening() as callbacks:
        yield callbacks


def ask(service: Service, callbacks: Callbacks, exchange: Exchange) -> list[dict[str, list[str]]]:
    """Have the service call back; the headers of each of its calls, names in lower case."""
    callbacks.came.clear()
    body = json.dumps([{"url": callbacks.url, "arguments": []}] * exchange.calls).encode()
    head = [
        "POST /test HTTP/1.1",
        "Host: 127.0.0.1",
        f"Content-Length: {len(body)}",
        "Connection: close",
        *exchange.lines,
    ]
    with socket.create_connection(("127.0.0.1", service.port), 30) as connection:
        connection.sendall("\r\n".join([*head, "", ""]).encode("latin-1") + body)
        with connection.makefile("rb") as stream:
            assert b" 200 " in stream.readline()
            stream.read()
    found = []
    for came in callbacks.came:
        headers: dict[str, list[str]] = {}
        for name, value in came:
            headers.setdefault(name.lower(), []).append(value)
        found.append(headers)
    return found


@pytest.mark.parametrize("case", CASES)
def test_a_clause(service: Service, callbacks: Callbacks, case: str) -> None:
    """What goes out is one right traceparent in the trace that the clause says, with the tracestate that it says."""
    for exchange in CASES[case]:
        calls = ask(service, callbacks, exchange)
        assert len(calls) == exchange.calls
        parents = set()
        for headers in calls:
            (traceparent,) = headers["traceparent"]
            match = re.fullmatch("00-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})", traceparent)
            assert match is not None
            trace, span, flags = match.groups()
            assert int(trace, 16)
            assert int(span, 16)
            parents.add(span)
            assert int(flags, 16) & exchange.flags == exchange.flags
            if exchange.continued:
                assert trace == TRACE
            else:
                assert trace.lower() not in "".join(exchange.lines).lower()
            members = [member.strip(" \t") for line in headers.get("tracestate", ()) for member in line.split(",")]
            assert ",".join(filter(None, members)) == exchange.state
        assert len(parents - {SPAN}) == exchange.calls


def test_there_are_as_many_as_in_the_harness() -> None:
    """W3C's harness, in its version acab820 of June 2026, has 41 with SPEC_LEVEL=2 and STRICT_LEVEL=2."""
    assert len(CASES) == 41


def test_the_runner_says_what_it_needs(tmp_path: Path) -> None:
    """A sentence where no harness is; with one, its result is counted, and is the exit status."""
    run = [sys.executable, "-m", "tests.interop.run_harness", str(tmp_path)]
    done = subprocess.run(run, capture_output=True, text=True, check=False, cwd=Path(__file__).parents[2])
    assert done.returncode == 2
    assert "no harness" in done.stderr
    assert "Traceback" not in done.stderr
    # As the harness does it, in little: the service is asked once.
    (tmp_path / "tracecontext").mkdir()
    (tmp_path / "test.py").write_text(
        "import os, sys, unittest, urllib.request\n"
        "class Case(unittest.TestCase):\n"
        "    def test_it(self):\n"
        "        assert os.environ['SPEC_LEVEL'] == os.environ['STRICT_LEVEL'] == '2'\n"
        "        assert urllib.request.urlopen(sys.argv[1], b'[]').status == 200\n"
        "unittest.main(argv=['harness', '-v'])\n"
    )
    done = subprocess.run(run, capture_output=True, text=True, check=False, cwd=Path(__file__).parents[2])
    assert done.stdout.endswith("1 of 1\n")
    assert done.returncode == 0
    (tmp_path / "test.py").write_text("raise SystemExit(3)\n")
    done = subprocess.run(run, capture_output=True, text=True, check=False, cwd=Path(__file__).parents[2])
    assert done.stdout.endswith("0 of 0\n")
    assert done.returncode == 1
