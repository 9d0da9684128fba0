"""A recording of a busy client's control port, made up: what `bench_tor.py` reads.

Each line is as tor 0.4.9 wrote it in clew's lab, with other ids, relays, addresses and times: circuits built in
advance, some of which fail, streams over them, now and then a retry, and connections to onion services. A few thousand
relays, as there are on the public network, so that paths seldom repeat. CIRC_BW is left out: nobody gets it who does
not ask for it.
"""

from __future__ import annotations

import random
from datetime import UTC, datetime, timedelta

__all__ = ["make_recording"]

_START = datetime(2026, 1, 31, 12, 0, tzinfo=UTC)
_RELAYS = 4000
_BASE32 = "abcdefghijklmnopqrstuvwxyz234567"
_USER = (
    "CLIENT_PROTOCOL=SOCKS5 NYM_EPOCH=0 SESSION_GROUP=-4 "
    "ISO_FIELDS=SOCKS_USERNAME,SOCKS_PASSWORD,CLIENTADDR,SESSION_GROUP,NYM_EPOCH"
)
_DIRECTORY = "CLIENT_PROTOCOL=UNKNOWN NYM_EPOCH=0 SESSION_GROUP=-2 ISO_FIELDS="
_REFUSED = "REASON=END REMOTE_REASON=CONNECTREFUSED"
_DONE = "REASON=END REMOTE_REASON=DONE"
_DESCRIPTOR = "03YVqktkttmUwRacRweCP/ufLXEO3nZX0CMIt5GP/jQ"
_LEG = "BUILD_FLAGS=NEED_CAPACITY,NEED_UPTIME PURPOSE=CONFLUX"
_ONION = "BUILD_FLAGS=IS_INTERNAL,NEED_CAPACITY PURPOSE="


def make_recording(visits: int, seed: int = 1) -> list[bytes]:
    """Lines with their line ends, in the order of their times.

    Args:
        visits: how many connections the user makes; about 12 lines come of each.
    """
    script = _Script(random.Random(seed))
    script.bootstrap()
    at = 2.0
    for number in range(visits):
        at += script.random.expovariate(20)
        if number % 2 == 0:
            script.circuit(at - 1)
        if number % 20 == 7:
            script.visit_onion(at)
        else:
            script.visit(at, refused=number % 25 == 3)
    return [f"650 {line}\r\n".encode() for _, line in sorted(script.lines, key=lambda line: line[0])]


class _Script:
    """What happens, with seconds since the start."""

    def __init__(self, rng: random.Random) -> None:
        self.random = rng
        self.lines: list[tuple[float, str]] = []
        self._circuits = self._streams = 0
        self._relays = [f"${rng.getrandbits(160):040X}~relay{number}" for number in range(_RELAYS)]
        self._guards = self._relays[:3]
        self._built: list[tuple[float, int]] = [(0.0, 0)]  # when, and which

    def _say(self, at: float, line: str) -> None:
        self.lines.append((at, line))

    def bootstrap(self) -> None:
        """tor's way into the network."""
        phases = ((5, "conn"), (10, "conn_done"), (15, "handshake_done"), (50, "loading_descriptors"), (100, "done"))
        for percent, tag in phases:
            summary = f'SUMMARY="It is at {tag}"'
            self._say(percent / 100, f"STATUS_CLIENT NOTICE BOOTSTRAP PROGRESS={percent} TAG={tag} {summary}")
        for number, guard in enumerate(self._guards, 5):
            self._say(0.05, f"ORCONN {guard} LAUNCHED ID={number}")
            self._say(0.15, f"ORCONN {guard} CONNECTED NCIRCS=1 ID={number}")
        times = "TOTAL_TIMES=1000 TIMEOUT_MS=815 XM=283 ALPHA=1.520695 CUTOFF_QUANTILE=0.800000"
        rates = "TIMEOUT_RATE=0.292260 CLOSE_MS=60000 CLOSE_RATE=0.011098"
        self._say(1.1, f"BUILDTIMEOUT_SET COMPUTED {times} {rates}")

    def circuit(self, at: float) -> None:
        """A leg of a conflux set, built in advance; one in ten fails at its second hop."""
        conflux = f"CONFLUX_ID={self.random.getrandbits(128):032X}"
        if self.random.random() < 0.1:
            self._circuits += 1
            named = f"CIRC {self._circuits}"
            fields = f"{_LEG}_UNLINKED {_created(at)} {conflux}"
            guard = self._path(1)[0]
            self._say(at, f"{named} LAUNCHED {fields}")
            self._say(at + 0.05, f"{named} EXTENDED {guard} {fields}")
            self._say(at + 0.3, f"{named} FAILED {guard} {fields} REASON=DESTROYED REMOTE_REASON=NOROUTE")
            return
        built_at, number, path = self._build(at, f"{_LEG}_UNLINKED", conflux, 3)
        linked = f"{path} {_LEG}_LINKED {_created(at)} {conflux}"
        self._say(built_at + 0.1, f"CIRC_MINOR {number} PURPOSE_CHANGED {linked} OLD_PURPOSE=CONFLUX_UNLINKED")
        self._say(at + 60, f"CIRC {number} CLOSED {linked} REASON=FINISHED")
        self._built.append((built_at, number))

    def visit(self, at: float, *, refused: bool) -> None:
        """A stream over a circuit that was there; where it is refused, tor tries three."""
        named, target = self._new_stream(), f"site{self.random.randrange(5000)}.example:443"
        self._say(at, f"{named} NEW 0 {target} {self._source()} PURPOSE=USER {_USER}")
        for _ in range(2 if refused else 0):
            circuit = self._any_circuit(at)
            self._say(at, f"{named} SENTCONNECT {circuit} {target} {_USER}")
            at += 0.2
            self._say(at, f"{named} DETACHED {circuit} {target} {_REFUSED} {_USER}")
        circuit = self._any_circuit(at)
        self._say(at, f"{named} SENTCONNECT {circuit} {target} {_USER}")
        at += self.random.uniform(0.1, 0.5)
        if refused:
            self._say(at, f"{named} FAILED {circuit} {target} {_REFUSED} {_USER}")
            self._say(at, f"{named} CLOSED {circuit} {target} {_REFUSED} {_USER}")
            return
        target = f"203.0.113.{self.random.randrange(256)}:443"
        self._say(at, f"{named} REMAP {circuit} {target} SOURCE=EXIT {_USER}")
        self._say(at, f"{named} SUCCEEDED {circuit} {target} {_USER}")
        for _ in range(self.random.randrange(1, 4)):
            at += self.random.uniform(0.1, 1)
            self._count_bytes(at, named)
        self._say(at, f"{named} CLOSED {circuit} {target} {_DONE} {_USER}")

    def visit_onion(self, at: float) -> None:
        """A stream to an onion service that was never visited: descriptor, rendezvous, introduction."""
        address = "".join(self.random.choices(_BASE32, k=56))
        user, target = self._new_stream(), f"{address}.onion:80"
        self._say(at, f"{user} NEW 0 {target} {self._source()} PURPOSE=USER {_USER}")

        directory = self.random.choice(self._relays)
        fetch, fetched = self._new_stream(), f"192.0.2.7.{directory[:41]}.exit:9001"
        described = f"{address} NO_AUTH {directory} {_DESCRIPTOR}"
        self._say(at, f"{fetch} NEW 0 {fetched} PURPOSE=DIR_FETCH {_DIRECTORY}")
        self._say(at, f"HS_DESC REQUESTED {described} HSDIR_INDEX={self.random.getrandbits(256):064X}")
        at, circuit, _ = self._build(at, f"{_ONION}HS_CLIENT_HSDIR HS_STATE=HSCI_CONNECTING", "", 4)
        self._say(at, f"{fetch} SENTCONNECT {circuit} {fetched} {_DIRECTORY}")
        at += 0.1
        self._say(at, f"{fetch} SUCCEEDED {circuit} {fetched} {_DIRECTORY}")
        at += 0.2
        self._count_bytes(at, fetch)
        self._say(at, f"{fetch} CLOSED {circuit} {fetched} {_DONE} {_DIRECTORY}")
        self._say(at, f"HS_DESC RECEIVED {described}")

        query, since = f"REND_QUERY={address}", at
        at, meeting, path = self._build(since, f"{_ONION}HS_CLIENT_REND HS_STATE=HSCR_CONNECTING", query, 3)
        at = self._change_state(at, meeting, path, "HS_CLIENT_REND", "HSCR_ESTABLISHED_IDLE", query, since)
        intro_since = at
        at, introduction, to = self._build(at, f"{_ONION}HS_CLIENT_INTRO HS_STATE=HSCI_CONNECTING", query, 4)
        at = self._change_state(at, introduction, to, "HS_CLIENT_INTRO", "HSCI_INTRO_SENT", query, intro_since)
        at = self._change_state(at, meeting, path, "HS_CLIENT_REND", "HSCR_ESTABLISHED_WAITING", query, since)
        at = self._change_state(at, introduction, to, "HS_CLIENT_INTRO", "HSCI_DONE", query, intro_since)
        closing = f"{to} {_ONION}HS_CLIENT_INTRO HS_STATE=HSCI_DONE {query} {_created(intro_since)}"
        self._say(at, f"CIRC {introduction} CLOSED {closing} REASON=FINISHED")
        at = self._change_state(at, meeting, path, "HS_CLIENT_REND", "HSCR_JOINED", query, since)

        self._say(at, f"{user} SENTCONNECT {meeting} {target} {_USER}")
        at += 0.2
        self._say(at, f"{user} SUCCEEDED {meeting} {target} {_USER}")
        at += 0.5
        self._count_bytes(at, user)
        self._say(at, f"{user} CLOSED {meeting} {target} {_DONE} {_USER}")

    # --- their parts ------------------------------------------------------------------------------------------------

    def _build(self, at: float, kind: str, more: str, hops: int) -> tuple[float, int, str]:
        """A circuit that gets built; returns when, its id, and its path."""
        self._circuits += 1
        named, path = f"CIRC {self._circuits}", self._path(hops)
        fields = " ".join(filter(None, (kind, more, _created(at))))
        self._say(at, f"{named} LAUNCHED {fields}")
        for hop in range(1, hops + 1):
            at += self.random.uniform(0.02, 0.2)
            self._say(at, f"{named} EXTENDED {','.join(path[:hop])} {fields}")
        self._say(at, f"{named} BUILT {','.join(path)} {fields}")
        return at, self._circuits, ",".join(path)

    def _change_state(
        self, at: float, circuit: int, path: str, purpose: str, state: str, query: str, since: float
    ) -> float:
        at += self.random.uniform(0.02, 0.2)
        fields = f"{path} {_ONION}{purpose} HS_STATE={state} {query} {_created(since)}"
        self._say(
            at, f"CIRC_MINOR {circuit} PURPOSE_CHANGED {fields} OLD_PURPOSE={purpose} OLD_HS_STATE=HSCR_CONNECTING"
        )
        return at

    def _count_bytes(self, at: float, stream: str) -> None:
        number, draw = stream.partition(" ")[2], self.random.randrange
        self._say(at, f"STREAM_BW {number} {draw(9999)} {draw(99999)} {_time(at)}")

    def _new_stream(self) -> str:
        self._streams += 1
        return f"STREAM {self._streams}"

    def _source(self) -> str:
        return f"SOURCE_ADDR=127.0.0.1:{self.random.randrange(1024, 65536)}"

    def _path(self, hops: int) -> list[str]:
        return [self.random.choice(self._guards), *self.random.sample(self._relays[3:], hops - 1)]

    def _any_circuit(self, at: float) -> int:
        ready = [number for built_at, number in self._built[-40:] if built_at <= at]
        return self.random.choice(ready or [0])


def _time(at: float) -> str:
    return (_START + timedelta(seconds=at)).strftime("%Y-%m-%dT%H:%M:%S.%f")


def _created(at: float) -> str:
    return f"TIME_CREATED={_time(at)}"
