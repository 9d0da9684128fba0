"""Made-up traces of a tor client, of the same shape as real ones: for tests of the report, and for looking at it.

    .venv/bin/python -m tests.tor_samples traces.jsonl --requests 400 --slow

Some relays are slower than others, some requests go to onion services, some circuits are there already, some things
fail. The same seed gives the same traces, but for ids.
"""

from __future__ import annotations

import argparse
from hashlib import sha1
from random import Random
from typing import TYPE_CHECKING

from clew import FileExporter, SpanKind, Status, Tracer
from clew.tor.privacy import LEVEL_ATTRIBUTE, Privacy, PrivacyFilter

if TYPE_CHECKING:
    from clew import Span

__all__ = ["START_NS", "TorSamples"]

START_NS = 1_767_225_600_000_000_000  # 2026-01-01 00:00:00 UTC
MS = 1_000_000

# Nickname to the factor of its delays.
GUARDS = {"guard1": 1.0, "guard2": 1.1, "snail": 3.2}
RELAYS = {"middle1": 1.0, "middle2": 1.3, "middle3": 0.9, "turtle": 4.0}
EXITS = {"exit1": 1.0, "exit2": 1.5}
ENDS = {"hsdir1": 1.0, "intro1": 1.2, "intro2": 0.8}

_PURPOSES = {  # of circuits to the role of their last hop
    "GENERAL": "exit",
    "CONFLUX_LINKED": "exit",
    "HS_CLIENT_HSDIR": "directory",
    "HS_CLIENT_INTRO": "introduction",
    "HS_CLIENT_REND": "rendezvous",
    "HS_VANGUARDS": "end",
}


class _Circuit:
    """A circuit that is there."""

    def __init__(self, number: int, build: Span, end_ns: int) -> None:
        self.number = number
        self.build = build
        self.end_ns = end_ns


class TorSamples:
    """Makes spans.

    Args:
        tracer: of the program, which makes tor's spans too.
        seed: of whatever is left to chance.
        privacy: the level that tor's spans are made at.
        slow: by what all delays are multiplied.
    """

    def __init__(self, tracer: Tracer, seed: int = 1, privacy: Privacy = Privacy.LAB, slow: float = 1.0) -> None:
        self._tracer = tracer
        self._random = Random(seed)
        self._filter = PrivacyFilter(privacy)
        self._slow = slow
        self._circuits = self._streams = 0
        self._ready: list[_Circuit] = []  # circuits of general purpose that wait for streams
        self._guard = list(GUARDS)

    def run(self, requests: int, start_ns: int = START_NS, between_ms: float = 1500) -> int:
        """Make a session: bootstrap, connections, circuits built in advance, requests. Returns: its end."""
        time_ns = self.bootstrap(start_ns)
        for _ in range(3):
            self._ready.append(self._circuit(time_ns, "GENERAL"))
            self._circuit(time_ns, "HS_VANGUARDS")
        for number in range(requests):
            time_ns += self._delay(between_ms)
            chance = self._random.random()
            if number % 10 == 0:
                circuit = self._circuit(time_ns, "CONFLUX_LINKED" if number % 20 else "GENERAL")
                self._ready = [*self._ready, circuit][-3:]
            if chance < 0.30:
                self.onion_request(time_ns, attempts=2 if chance < 0.05 else 1)
            elif chance < 0.33:
                self.failing_request(time_ns, "exitpolicy")
            elif chance < 0.36:
                self.failing_request(time_ns, "resolvefailed")
            elif chance < 0.38:
                self.onion_request(time_ns, attempts=0)
            elif chance < 0.46:
                self.request(time_ns, build=True)
            elif chance < 0.50:
                self.stream(None, time_ns, self._ready[-1])
            else:
                self.request(time_ns)
            if number % 17 == 3:
                self.failing_circuit(time_ns)
        return time_ns

    # --- what a program does ----------------------------------------------------------------------------------------

    def request(self, start_ns: int, *, build: bool = False, name: str = "GET", **attributes: object) -> Span:
        """A request that succeeds, over a circuit that is there, or that is built for it."""
        span = self._begin(name, start_ns, {"http.request.method": "GET", **attributes}, None, SpanKind.CLIENT)
        stream_ns = start_ns + self._delay(2)
        end_ns = self.stream(span, stream_ns, None if build or not self._ready else self._random.choice(self._ready))
        span.end(end_ns + self._delay(1))
        return span

    def failing_request(self, start_ns: int, reason: str) -> Span:
        """A request whose stream fails at the exit."""
        span = self._begin("GET", start_ns, {"http.request.method": "GET"}, None, SpanKind.CLIENT)
        end_ns = self.stream(span, start_ns + self._delay(2), self._ready[0] if self._ready else None, failure=reason)
        span.add_event("exception", {"exception.type": "ProxyError", "exception.message": "no answer"}, end_ns)
        span.set_attribute("error.type", "ProxyError")
        span.set_status(Status.ERROR, "the proxy said no")
        span.end(end_ns + self._delay(1))
        return span

    def onion_request(self, start_ns: int, *, attempts: int = 1) -> Span:
        """A request to an onion service.

        Args:
            attempts: introductions that are made, of which the last one succeeds; with 0 there is no descriptor.
        """
        span = self._begin("GET", start_ns, {"http.request.method": "GET"}, None, SpanKind.CLIENT)
        address = "vww6ybal4bd7szmgncyruucpgfkqahzddi37ktceo3ah7ngmcopnpyyd.onion"
        at = start_ns + self._delay(2)
        stream = self._stream(span, at, address)
        attach = self._begin("tor.stream.attach", at, {}, stream)
        connect = self._begin("tor.hs.connect", at, {"tor.hs.address": address}, attach)
        at += self._delay(3)
        fetch_end_ns = self._fetch(connect, at, failure="" if attempts else "not_found")
        if not attempts:
            for each in (connect, attach, stream):
                self._fail(each, "resolvefailed", fetch_end_ns + 2 * MS)
            self._fail(span, "ProxyError", fetch_end_ns + 4 * MS)
            return span
        establish = self._begin("tor.hs.connect.rendezvous.establish", fetch_end_ns, {}, connect)
        rendezvous = self._circuit(fetch_end_ns, "HS_CLIENT_REND", establish)
        at = rendezvous.end_ns + self._delay(30)
        establish.end(at)
        introduced_ns = fetch_end_ns
        for attempt in range(1, attempts + 1):
            introduce = self._begin("tor.hs.connect.introduce", introduced_ns, {"tor.hs.attempt": attempt}, connect)
            circuit = self._circuit(introduced_ns, "HS_CLIENT_INTRO", introduce, fail=attempt < attempts)
            introduced_ns = max(circuit.end_ns, at) + self._delay(40)
            introduce.add_event("introduce_sent", None, max(circuit.end_ns, at))
            if attempt < attempts:
                self._fail(introduce, "timeout", introduced_ns)
            else:
                introduce.end(introduced_ns)
        join = self._begin("tor.hs.connect.rendezvous.join", introduced_ns, {}, connect)
        at = introduced_ns + self._delay(90)
        join.end(at)
        connect.end(at + self._delay(2))
        attach.end(at + self._delay(3))
        end_ns = self._connected(stream, at + 3 * MS, 1.6)
        span.end(end_ns + self._delay(1))
        return span

    def stream(self, parent: Span | None, start_ns: int, circuit: _Circuit | None, *, failure: str = "") -> int:
        """A stream through an exit; without a circuit, one is built for it. Returns: its end."""
        stream = self._stream(parent, start_ns, "www.example.com")
        attach = self._begin("tor.stream.attach", start_ns, {}, stream)
        if circuit is None:
            circuit = self._circuit(start_ns + MS, "GENERAL", attach)
            at = circuit.end_ns + self._delay(1)
        else:
            at = start_ns + self._delay(0.6)
            age_ms = max(start_ns - circuit.end_ns, 0) // MS
            stream.add_link(circuit.build.context)
            stream.set_attributes({"tor.circuit.reused": True, "tor.circuit.age_ms": age_ms})
        stream.set_attributes(self._kept({"tor.circuit.id": str(circuit.number)}))
        attach.end(at)
        if failure:
            connect = self._begin("tor.stream.connect", at, {}, stream)
            at += self._delay(120)
            self._fail(connect, failure, at)
            self._fail(stream, failure, at + MS // 10)
            return at
        return self._connected(stream, at, 1.0)

    # --- what tor does ----------------------------------------------------------------------------------------------

    def bootstrap(self, start_ns: int) -> int:
        """Start tor. Returns: when it was ready."""
        span = self._begin("tor.bootstrap", start_ns, {"tor.bootstrap.progress": 100}, None)
        at = start_ns
        for number in range(6):
            link = self._begin("tor.orconn", at, {}, None)
            if number == 4:
                self._fail(link, "connectrefused", at + self._delay(40))
            else:
                link.end(at + self._delay(80))
            at += self._delay(250)
        span.end(at)
        return at

    def failing_circuit(self, start_ns: int) -> None:
        """A circuit that nobody asked for fails."""
        self._circuit(start_ns, "GENERAL", fail=True)

    def _circuit(self, start_ns: int, purpose: str, parent: Span | None = None, *, fail: bool = False) -> _Circuit:
        self._circuits += 1
        attributes = {
            LEVEL_ATTRIBUTE: self._filter.level_name,
            "tor.circuit.id": str(self._circuits),
            "tor.circuit.purpose": purpose,
            "tor.circuit.build_flags": ("NEED_CAPACITY",),
            "tor.circuit.hops": 3,
        }
        build = self._begin("tor.circuit.build", start_ns, attributes, parent)
        ends = EXITS if _PURPOSES[purpose] == "exit" else ENDS
        at, failing_hop = start_ns, self._random.choice((1, 2, 2, 3)) if fail else 0
        for index, (role, relays) in enumerate(
            (("guard", GUARDS), ("middle", RELAYS), (_PURPOSES[purpose], ends)), start=1
        ):
            nickname = self._guard[self._circuits % 7 % 3] if index == 1 else self._random.choice(list(relays))
            hop = self._begin(
                "tor.circuit.extend",
                at,
                {
                    "tor.hop.index": index,
                    "tor.relay.nickname": nickname,
                    "tor.relay.fingerprint": sha1(nickname.encode()).hexdigest().upper(),
                    "tor.hop.role": role,
                    "tor.circuit.id": str(self._circuits),
                },
                build,
            )
            at += self._delay((25, 55, 90)[index - 1] * relays[nickname])
            if index == failing_hop:
                reason = self._random.choice(("timeout", "destroyed", "channel_closed"))
                self._fail(hop, reason, at)
                build.set_attributes({"tor.circuit.failed_hop": index})
                self._fail(build, reason, at)
                break
            hop.end(at)
        else:
            build.end(at)
        return _Circuit(self._circuits, build, at)

    def _fetch(self, connect: Span, start_ns: int, *, failure: str = "") -> int:
        """Fetch a descriptor. Returns: when that was over."""
        fetch = self._begin("tor.hs.connect.descriptor.fetch", start_ns, {}, connect)
        circuit = self._circuit(start_ns, "HS_CLIENT_HSDIR", fetch)
        attributes: dict[str, object] = {"tor.stream.purpose": "DIR_FETCH", LEVEL_ATTRIBUTE: self._filter.level_name}
        stream = self._begin("tor.stream", circuit.end_ns, attributes, fetch)
        attach = self._begin("tor.stream.attach", circuit.end_ns, {}, stream)
        attach.end(circuit.end_ns + MS // 5)
        end_ns = circuit.end_ns + self._delay(70)
        stream.end(end_ns)
        if failure:
            self._fail(fetch, failure, end_ns)
        else:
            fetch.end(end_ns)
        return end_ns

    def _stream(self, parent: Span | None, start_ns: int, address: str) -> Span:
        self._streams += 1
        attributes = {
            LEVEL_ATTRIBUTE: self._filter.level_name,
            "tor.stream.id": str(self._streams),
            "tor.stream.purpose": "USER",
            "server.address": address,
            "server.port": 443,
            "network.local.port": 40_000 + self._streams % 20_000,
        }
        return self._begin("tor.stream", start_ns, attributes, parent, SpanKind.CLIENT)

    def _connected(self, stream: Span, start_ns: int, distance: float) -> int:
        """Connect and transfer. Returns: the end of the stream."""
        connect = self._begin("tor.stream.connect", start_ns, {}, stream)
        at = start_ns + self._delay(95 * distance)
        connect.end(at)
        transfer = self._begin("tor.stream.transfer", at, {}, stream)
        at += self._delay(110 * distance)
        stream.add_event("first_byte", None, at)
        at += self._delay(160 * distance)
        transfer.end(at)
        stream.set_attributes(self._kept({"tor.stream.bytes_read": 100_000, "tor.stream.bytes_written": 512}))
        stream.end(at)
        return at

    def _begin(
        self,
        name: str,
        start_ns: int,
        attributes: dict[str, object],
        parent: Span | None,
        kind: SpanKind = SpanKind.INTERNAL,
    ) -> Span:
        kept = self._kept(attributes) if name.startswith("tor.") else attributes
        return self._tracer.start_span(name, kind, attributes=kept, parent=parent, start_time_ns=start_ns)

    def _fail(self, span: Span, reason: str, end_ns: int) -> None:
        span.set_attribute("error.type", reason)
        span.set_status(Status.ERROR, reason)
        span.end(end_ns)

    def _kept(self, attributes: dict[str, object]) -> dict[str, object]:
        return self._filter.attributes(attributes)

    def _delay(self, median_ms: float) -> int:
        """A delay in nanoseconds: mostly near the median, sometimes much longer, as on a network."""
        return int(median_ms * self._slow * self._random.lognormvariate(0, 0.45) * MS)


def main() -> None:
    """Write a file of samples."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("file")
    parser.add_argument("--requests", type=int, default=400)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--privacy", type=int, default=3, help="the level, 0 to 3")
    parser.add_argument("--slow", type=float, default=1.0, help="by what all delays are multiplied")
    args = parser.parse_args()
    level = Privacy(args.privacy)
    resource = {LEVEL_ATTRIBUTE: level.name.lower()}
    with Tracer("crawler", FileExporter(args.file), resource=resource, max_queue_bytes=1 << 30) as tracer:
        TorSamples(tracer, args.seed, level, args.slow).run(args.requests)


if __name__ == "__main__":
    main()
