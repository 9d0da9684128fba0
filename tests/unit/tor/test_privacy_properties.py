"""Random events and spans full of marked secrets: none is in the output below its level, in whatever spelling."""

from __future__ import annotations

import base64
from contextlib import suppress
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from clew import Status, Tracer
from clew.errors import ControlProtocolError
from clew.tor.circuits import STATUSES as CIRCUIT_STATUSES
from clew.tor.events import parse_event
from clew.tor.mapper import TorMapper
from clew.tor.privacy import Privacy
from clew.tor.protection import protect
from clew.tor.streams import STATUSES as STREAM_STATUSES
from clew.tor.wire import Reply, ReplyLine
from tests.marked import NEVER, forbidden, seen, written

if TYPE_CHECKING:
    from clew.otlp import Batch

# --- the secrets, each with the level from which on it may be seen --------------------------------------------------

GUARDS = [f"{digit * 2}0123456789ABCDEF0123456789ABCDEF012345" for digit in "AB"]
RELAYS = [f"{digit * 2}FEDCBA9876543210FEDCBA9876543210FEDCBA" for digit in "CDEF"]
GUARD_NAMES = ["guardmarked1", "guardmarked2"]
RELAY_NAMES = ["relaymarked1", "relaymarked2", "relaymarked3"]
ONIONS = ["markedonion" + letter * 45 for letter in "ab"]
HOSTS = ["marked-host.example", "203.0.113.77", "marked.example.com"]
PORTS = ["41817", "41818"]
CLIENTS = ["198.51.100.23", "2001:db8::cafe:77"]
CLIENT_PORTS = ["51417"]
DESCRIPTORS = ["03YVqktkttmUwRacRweCPufLXEO3nZX0CMIt5GPmARK", "13YVqktkttmUwRacRweCPufLXEO3nZX0CMIt5GPmARK"]
INDEXES = ["E3A5B196C26765A5EB4955137888737010FF45CA51E13B8520F903524BD6C540"]
IDS = ["MARKEDID1", "MARKEDID2", "MARKEDID3"]
TEXTS = ["marked secret text", "marked-keyword-value"]
CREDENTIALS = ["marked-user", "marked-password"]

LEVELS: dict[str, int] = {
    **dict.fromkeys([*IDS], Privacy.PSEUDONYMOUS),
    **dict.fromkeys([*RELAYS, *RELAY_NAMES, *ONIONS, *HOSTS, *DESCRIPTORS, *INDEXES], Privacy.OPERATOR),
    **dict.fromkeys([f'"intValue":"{port}"' for port in PORTS], Privacy.OPERATOR),
    **dict.fromkeys([*GUARDS, *GUARD_NAMES, *CLIENTS, *TEXTS], Privacy.LAB),
    **dict.fromkeys([f'"intValue":"{port}"' for port in CLIENT_PORTS], Privacy.LAB),
    **dict.fromkeys(CREDENTIALS, NEVER),
}

# --- random events, as tor would write them -------------------------------------------------------------------------

pick = st.sampled_from
ids = pick(IDS)
guards = st.builds("${}~{}".format, pick(GUARDS), pick(GUARD_NAMES))
relays = st.builds("${}~{}".format, pick(RELAYS), pick(RELAY_NAMES))
# One that is in the place of a guard at times must be none elsewhere: relays are those of later hops and directories.
paths = st.builds(lambda first, rest: ",".join([first, *rest]), guards, st.lists(relays, max_size=3))
odd = pick([f'"{TEXTS[0]}"', TEXTS[1]])
words = st.one_of(pick(["GENERAL", "TIMEOUT", "DESTROYED", "END", "DONE", "HS_CLIENT_REND", "HS_CLIENT_INTRO"]), odd)
purposes = st.one_of(
    pick(["GENERAL", "HS_CLIENT_HSDIR", "HS_CLIENT_REND", "HS_CLIENT_INTRO", "HS_SERVICE_INTRO", "HS_SERVICE_REND"]),
    odd,
)
states = st.one_of(
    pick(["HSCR_ESTABLISHED_IDLE", "HSCR_JOINED", "HSCI_INTRO_SENT", "HSCI_DONE", "HSSI_ESTABLISHED", "HSSR_JOINED"]),
    odd,
)
clients = st.builds(lambda host, port: f"{host}:{port}", pick([CLIENTS[0], f"[{CLIENTS[1]}]"]), pick(CLIENT_PORTS))
user_targets = st.builds(
    lambda host, port: f"{host}:{port}", pick([*HOSTS, *(f"{onion}.onion" for onion in ONIONS)]), pick(PORTS)
)
own_targets = st.builds(lambda relay, port: f"127.0.0.1.${relay}.exit:{port}", pick(GUARDS), pick(PORTS))
targets = st.one_of(user_targets, own_targets, odd)
SOCKS_CREDENTIALS = f'SOCKS_USERNAME="{CREDENTIALS[0]}" SOCKS_PASSWORD="{CREDENTIALS[1]}"'
credentials = pick([SOCKS_CREDENTIALS, ""])


@st.composite
def fields(draw: st.DrawFn, /, **known: st.SearchStrategy[str]) -> str:
    """Some of the keywords that an event may have, and some that no tor has."""
    known["NEW_KEYWORD"] = odd
    chosen = draw(st.lists(pick(sorted(known)), max_size=6, unique=True))
    return " ".join(f"{name}={draw(known[name])}" for name in chosen)


circuit_fields = fields(
    PURPOSE=purposes,
    HS_STATE=states,
    BUILD_FLAGS=st.one_of(pick(["NEED_UPTIME", "IS_INTERNAL,NEED_CAPACITY"]), odd),
    REND_QUERY=pick(ONIONS),
    REASON=words,
    REMOTE_REASON=words,
    CONFLUX_ID=odd,
    CONFLUX_RTT=st.one_of(pick(["1500"]), odd),
    TIME_CREATED=pick(["2026-01-01T00:00:00.000001", "never"]),
    OLD_PURPOSE=purposes,
    OLD_HS_STATE=states,
)
stream_fields = fields(
    REASON=words,
    REMOTE_REASON=words,
    SOURCE=words,
    SOURCE_ADDR=clients,
    PURPOSE=st.one_of(pick(["USER", "DIR_FETCH", "DIR_UPLOAD", "DNS_REQUEST"]), odd),
    CLIENT_PROTOCOL=words,
    NYM_EPOCH=pick(["0", "7"]),
    SESSION_GROUP=pick(["-4"]),
    ISO_FIELDS=pick(["CLIENTADDR,NYM_EPOCH", ""]),
)
unknown = st.one_of(pick(["650", "x"]), odd)
events = st.one_of(
    st.builds("CIRC {} {} {} {}".format, ids, st.one_of(pick([*CIRCUIT_STATUSES]), odd), paths, circuit_fields),
    st.builds("CIRC {} LAUNCHED {}".format, ids, circuit_fields),
    st.builds("CIRC_MINOR {} {} {} {}".format, ids, pick(["PURPOSE_CHANGED", "CANNIBALIZED"]), paths, circuit_fields),
    st.builds(
        "STREAM {} {} {} {} {} {}".format,
        ids,
        st.one_of(pick([*STREAM_STATUSES]), odd),
        st.one_of(pick(["0"]), ids),
        targets,
        stream_fields,
        credentials,
    ),
    st.builds("STREAM_BW {} {} {} 2026-01-01T00:00:00".format, ids, pick(["3000"]), pick(["70000"])),
    st.builds(
        "HS_DESC {} {} {} {} {} {}".format,
        pick(["REQUESTED", "RECEIVED", "FAILED", "UPLOAD", "UPLOADED", "CREATED", "NEW_ACTION"]),
        pick([*ONIONS, "UNKNOWN"]),
        pick(["NO_AUTH", "UNKNOWN"]),
        st.one_of(relays, pick(["UNKNOWN"])),
        pick(DESCRIPTORS),
        fields(REASON=words, REPLICA=pick(["0", "1"]), HSDIR_INDEX=pick(INDEXES)),
    ),
    st.builds(
        "ORCONN {} {} {}".format,
        st.one_of(guards, clients),
        st.one_of(pick(["NEW", "LAUNCHED", "CONNECTED", "FAILED", "CLOSED"]), odd),
        fields(REASON=words, NCIRCS=pick(["1"]), ID=ids),
    ),
    st.builds(
        "STATUS_CLIENT {} BOOTSTRAP PROGRESS={} TAG={} SUMMARY={} {}".format,
        pick(["NOTICE", "WARN"]),
        pick(["0", "50", "100"]),
        words,
        odd,
        fields(
            WARNING=odd,
            REASON=words,
            COUNT=pick(["1"]),
            RECOMMENDATION=words,
            HOST=pick(GUARDS),
            HOSTID=pick(GUARDS),
            HOSTADDR=clients,
        ),
    ),
    st.builds("BUILDTIMEOUT_SET {} {}".format, words, fields(TIMEOUT_MS=pick(["900"]), CUTOFF_QUANTILE=pick(["0.8"]))),
    st.builds("STATUS_GENERAL NOTICE {} {}".format, words, fields(SKEW=odd)),
    st.builds("NEW_EVENT {} {} {}".format, targets, unknown, credentials),
)


@st.composite
def stream_lives(draw: st.DrawFn) -> list[str]:
    """A stream as tor tells it, with its circuit."""
    stream, circuit, target = draw(ids), draw(ids), draw(st.one_of(user_targets, own_targets))
    steps = ["NEW 0", f"SENTCONNECT {circuit}", f"SUCCEEDED {circuit}", f"CLOSED {circuit}"]
    lines = [f"STREAM {stream} {step} {target} {draw(stream_fields)} {draw(credentials)}" for step in steps]
    path = draw(paths)
    build = [f"CIRC {circuit} LAUNCHED {draw(circuit_fields)}"]
    hops = path.split(",")
    build += [f"CIRC {circuit} EXTENDED {','.join(hops[:n])} {draw(circuit_fields)}" for n in range(1, len(hops) + 1)]
    build.append(f"CIRC {circuit} {draw(pick(['BUILT', 'FAILED', 'CLOSED']))} {path} {draw(circuit_fields)}")
    at = draw(st.integers(0, 3))
    return [*lines[:at], *build, *lines[at:]]


@st.composite
def onion_lives(draw: st.DrawFn) -> list[str]:
    """A connection to an onion service, as far as the stream, the descriptor and the circuits tell it."""
    onion, stream, circuit, relay = draw(pick(ONIONS)), draw(ids), draw(ids), draw(relays)
    descriptor = f"{onion} NO_AUTH {relay} {draw(pick(DESCRIPTORS))}"
    path, more = draw(paths), draw(circuit_fields)
    rend = f"PURPOSE=HS_CLIENT_REND REND_QUERY={onion}"
    return [
        f"STREAM {stream} NEW 0 {onion}.onion:{draw(pick(PORTS))} {draw(stream_fields)}",
        f"HS_DESC REQUESTED {descriptor} HSDIR_INDEX={INDEXES[0]}",
        f"HS_DESC {draw(pick(['RECEIVED', 'FAILED']))} {descriptor} {draw(fields(REASON=words))}",
        f"CIRC {circuit} LAUNCHED {rend} HS_STATE=HSCR_CONNECTING",
        f"CIRC {circuit} EXTENDED {path} {rend} {more}",
        f"CIRC {circuit} BUILT {path} {rend} HS_STATE=HSCR_CONNECTING",
        f"CIRC_MINOR {circuit} PURPOSE_CHANGED {path} {rend} HS_STATE={draw(pick(['HSCR_JOINED', 'HSCI_DONE']))}",
        f"STREAM {stream} {draw(pick(['SENTCONNECT', 'CLOSED']))} {circuit} {onion}.onion:80 {draw(stream_fields)}",
    ]


sequences = st.lists(
    st.one_of(events.map(lambda line: [line]), stream_lives(), onion_lives()), min_size=1, max_size=8
).map(lambda parts: [line for part in parts for line in part])


class Kept:
    """An exporter that keeps batches."""

    leaves_machine = False

    def __init__(self) -> None:
        self.batches: list[Batch] = []

    def export(self, batch: Batch) -> None:
        self.batches.append(batch)

    def close(self) -> None:
        pass


def map_lines(lines: list[str], level: Privacy, *, again: Privacy | None = None) -> bytes:
    """What is written of the spans of these events, at a level; and scrubbed once more at another."""
    kept = Kept()
    tracer = Tracer("tor", exporter=kept)
    mapper = TorMapper(tracer, level)
    if again is not None:
        protect(tracer, mapper.privacy.at(again))
    for number, line in enumerate(lines):
        with suppress(ControlProtocolError):  # an id that is none, for one
            mapper.handle(parse_event(Reply(650, (ReplyLine(line),)), 1_700_000_000_000_000_000 + number * 1_000_000))
    mapper.close("CONNECTION_LOST", 1_700_000_100_000_000_000)
    tracer.close()
    stats = tracer.stats()
    assert (stats.open, stats.errors, stats.coerced, stats.failed) == (0, 0, 0, 0)
    return written(kept.batches)


@pytest.mark.parametrize("level", Privacy)
@given(lines=sequences)
def test_no_secret_of_tors_below_its_level(level: Privacy, lines: list[str]) -> None:
    """Whatever tor sends, in whatever order: what is written has no secret that the level forbids."""
    assert seen(forbidden(LEVELS, level), map_lines(lines, level)) == set()


@pytest.mark.parametrize("level", [Privacy.ANONYMOUS, Privacy.PSEUDONYMOUS, Privacy.OPERATOR])
@given(lines=sequences)
def test_no_secret_of_tors_below_the_level_of_the_export(level: Privacy, lines: list[str]) -> None:
    """Spans that were made at level 3 and are exported at a lower one have no secret that the lower one forbids."""
    assert seen(forbidden(LEVELS, level), map_lines(lines, Privacy.LAB, again=level)) == set()


@given(lines=sequences)
def test_a_second_filter_of_the_same_level_changes_nothing(lines: list[str]) -> None:
    """What the mapper made passes the export as it is: the bytes are the same but for ids, keys and the resource."""
    kept = Kept()
    tracer = Tracer("tor", exporter=kept)
    mapper = TorMapper(tracer, Privacy.PSEUDONYMOUS)
    for number, line in enumerate(lines):
        with suppress(ControlProtocolError):
            mapper.handle(parse_event(Reply(650, (ReplyLine(line),)), 1_700_000_000_000_000_000 + number * 1_000_000))
    mapper.close("CONNECTION_LOST", 1_700_000_100_000_000_000)
    protected = Tracer("again", exporter=Kept())
    protect(protected, mapper.privacy)
    tracer.close()
    for batch in kept.batches:
        protected.exporter.export(batch)
    inner = protected.exporter.wrapped  # type: ignore[attr-defined]
    assert [batch.spans for batch in inner.batches] == [batch.spans for batch in kept.batches]
    protected.close()


EVERYTHING = [
    f'STATUS_CLIENT WARN BOOTSTRAP PROGRESS=5 TAG=conn WARNING="{TEXTS[0]}" HOSTID={GUARDS[1]} HOSTADDR={CLIENTS[0]}',
    f"ORCONN ${GUARDS[0]}~{GUARD_NAMES[1]} LAUNCHED ID={IDS[2]}",
    f"ORCONN ${GUARDS[0]}~{GUARD_NAMES[1]} CONNECTED ID={IDS[2]}",
    f"STREAM {IDS[0]} NEW 0 {HOSTS[0]}:{PORTS[0]} SOURCE_ADDR={CLIENTS[1]}:{CLIENT_PORTS[0]} {SOCKS_CREDENTIALS}",
    f"CIRC {IDS[1]} LAUNCHED PURPOSE=GENERAL NEW_KEYWORD={TEXTS[1]}",
    f"CIRC {IDS[1]} EXTENDED ${GUARDS[0]}~{GUARD_NAMES[0]} PURPOSE=GENERAL",
    f"CIRC {IDS[1]} EXTENDED ${GUARDS[0]}~{GUARD_NAMES[0]},${RELAYS[0]}~{RELAY_NAMES[0]} PURPOSE=GENERAL",
    f"CIRC {IDS[1]} BUILT ${GUARDS[0]}~{GUARD_NAMES[0]},${RELAYS[0]}~{RELAY_NAMES[0]} PURPOSE=GENERAL",
    f"STREAM {IDS[0]} SENTCONNECT {IDS[1]} {HOSTS[0]}:{PORTS[0]}",
    f"STREAM {IDS[0]} CLOSED {IDS[1]} {HOSTS[0]}:{PORTS[0]} REASON=DONE",
    f"STREAM {IDS[2]} NEW 0 {ONIONS[0]}.onion:{PORTS[1]} PURPOSE=USER",
    f"HS_DESC REQUESTED {ONIONS[0]} NO_AUTH ${RELAYS[1]}~{RELAY_NAMES[1]} {DESCRIPTORS[0]} HSDIR_INDEX={INDEXES[0]}",
    f"HS_DESC RECEIVED {ONIONS[0]} NO_AUTH ${RELAYS[1]}~{RELAY_NAMES[1]} {DESCRIPTORS[0]}",
]


def test_the_secrets_are_there_in_the_lab() -> None:
    """The tests above can fail: at level 3 these events do write what they look for, but for credentials."""
    told = seen(LEVELS, map_lines(EVERYTHING, Privacy.LAB))
    assert told >= {
        *IDS,
        *RELAYS[:2],
        *RELAY_NAMES[:2],
        *GUARDS,
        *GUARD_NAMES,
        ONIONS[0],
        HOSTS[0],
        *CLIENTS,
        DESCRIPTORS[0],
        *INDEXES,
        *TEXTS,
        *(f'"intValue":"{port}"' for port in [*PORTS, *CLIENT_PORTS]),
    }
    assert not told & set(CREDENTIALS)


# --- application spans ----------------------------------------------------------------------------------------------

URLS = ["https://marked-url.example.org/marked/path?marked=query", f"http://{ONIONS[1]}.onion/marked"]
PLACES = ["marked.example.com", "marked-place.rareending", f"{ONIONS[0]}.onion", f"www.{ONIONS[1]}.onion"]
KEYS = ["-----BEGIN PRIVATE KEY-----\nmarkedkeymarkedkey\n-----END PRIVATE KEY-----"]
MACHINES = ["203.0.113.77", "2001:db8::cafe:77", GUARDS[0], "marked-user@example.com"]
# What of them must not be readable: the telling part, without what a scheme or an ending adds.
APPLICATION_LEVELS: dict[str, int] = {
    **dict.fromkeys(["marked-url.example.org", "marked/path", "marked=query", *ONIONS, *PLACES[:2]], Privacy.OPERATOR),
    **dict.fromkeys(["203.0.113.77", "2001:db8::cafe:77", GUARDS[0], "marked-user@"], Privacy.LAB),
    **dict.fromkeys(["marked exception text"], Privacy.LAB),
    **dict.fromkeys(["markedkeymarkedkey", "markedpassword", "markedcookie"], NEVER),
}


def full_width(text: str) -> str:
    return "".join(chr(ord(c) + 0xFEE0) if "!" <= c <= "~" else c for c in text)


disguises = pick(
    [
        str,
        str.upper,
        str.title,
        lambda text: "".join(f"%{byte:02x}" for byte in text.encode()),
        lambda text: "".join(f"%25{byte:02x}" for byte in text.encode()),
        lambda text: "".join(f"\\x{byte:02x}" for byte in text.encode()),
        lambda text: "".join(f"&#{byte};" for byte in text.encode()),
        lambda text: text.replace(".", "\u3002"),
        "\u200b".join,
        full_width,
        lambda text: base64.b64encode(text.encode()).decode(),
        lambda text: base64.urlsafe_b64encode(text.encode()).decode().rstrip("="),
        lambda text: base64.b32encode(text.encode()).decode(),
        lambda text: base64.b64encode(base64.b64encode(text.encode())).decode(),
        lambda text: text.encode().hex(),
        lambda text: text.encode().hex().upper(),
    ]
)
frames = pick(["{}", "fetching {} now", "('{}', 80)", "x={};y", "<{}>", '"{}"', "_{}_", "key={}", "{},{}", "GET\t{}"])
disguised = st.builds(
    lambda text, disguise, frame: frame.replace("{}", disguise(text)),
    pick([*URLS, *PLACES, *MACHINES]),
    disguises,
    frames,
)
secret_texts = pick(
    [
        "https://user:markedpassword@marked.example.com/",
        "socks5h://me:markedpassword@127.0.0.1:9050",
        "Authorization: Basic markedpassword",
        "Cookie: session=markedcookie; a=b",
        '{"password": "markedpassword"}',
        "SOCKS_USERNAME=markedpassword SOCKS_PASSWORD=markedpassword",
        *KEYS,
    ]
)
own_texts = st.one_of(disguised, disguised, secret_texts, pick(["cart", "done", ""]))
values = st.recursive(
    st.one_of(own_texts, st.integers(-5, 5), st.booleans(), own_texts.map(str.encode), st.none()),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(own_texts, inner, max_size=3)),
    max_leaves=5,
)
# A machine's address that is a destination may be seen at level 2, so these get others.
destinations = st.dictionaries(
    pick(["url.full", "http.target", "server.address", "peer.service"]),
    st.builds(lambda text, disguise: disguise(text), pick([*URLS, *PLACES]), disguises),
    max_size=2,
)
names = st.one_of(
    pick(["note", "db.statement", "exception.message", "url.scheme", "client.address"]),
    pick(["code.function", "error.type", "http.request.method", "user.id", "http.route", "messaging.destination.name"]),
    pick(["tor.circuit.purpose", "tor.relay.fingerprint", "tor.new", "service.version", "thread.id", "http.flavor"]),
    disguised,
)
bags = st.builds(dict.__or__, destinations, st.dictionaries(names, values, max_size=4))
secret_bags: st.SearchStrategy[dict[str, object]] = pick(
    [
        {"http.request.header.cookie": "markedcookie"},
        {"proxy.password": "markedpassword"},
        {"api_key": ["markedpassword"]},
        {"nested": {"password": "markedpassword"}},
        {},
    ]
)


@pytest.mark.parametrize("level", Privacy)
@given(data=st.data())
def test_no_secret_of_the_applications_below_its_level(level: Privacy, data: st.DataObject) -> None:
    """Names, attributes, events, links, descriptions, resources: none tells a place or a secret below its level."""
    kept = Kept()
    resource = data.draw(bags)
    try:
        tracer = Tracer("shop", exporter=kept, resource={k: v for k, v in resource.items() if k})
    except Exception:  # a resource that is refused is no concern of this test
        tracer = Tracer("shop", exporter=kept)
    privacy = protect(tracer, level)
    # Seen by tor, or in an earlier span: a host with an ending that nobody knows.
    privacy.places.add(PLACES[1])
    with tracer.start_span(data.draw(own_texts), attributes=data.draw(bags)) as span:
        span.set_attributes(data.draw(secret_bags))
        span.add_event(data.draw(own_texts), data.draw(bags))
        with tracer.start_span(
            "other", links=[span.context._replace(trace_state="vendor=marked.example.com")]
        ) as other:
            other.add_link(span.context, data.draw(bags))
            other.set_status(Status.ERROR, data.draw(own_texts))
        with suppress(ConnectionError), tracer.start_span("failing"):
            raise ConnectionError("marked exception text: " + data.draw(own_texts))
    tracer.close()
    assert tracer.stats().failed == 0
    assert seen(forbidden(APPLICATION_LEVELS, level), written(kept.batches)) == set()


def test_the_applications_words_are_there_in_the_lab() -> None:
    """That test can fail too: at level 3 all of it is written, but for what opens something."""
    kept = Kept()
    tracer = Tracer("shop", exporter=kept)
    protect(tracer, Privacy.LAB)
    with suppress(ConnectionError), tracer.start_span(f"GET {URLS[0]}") as span:
        span.set_attributes({"note": [*PLACES, *MACHINES], "http.request.header.cookie": "markedcookie"})
        span.set_attributes({"proxy": "socks5h://me:markedpassword@127.0.0.1:9050", "key": KEYS[0]})
        raise ConnectionError("marked exception text")
    tracer.close()
    everything = set(APPLICATION_LEVELS)
    assert seen(everything, written(kept.batches)) == everything - set(forbidden(APPLICATION_LEVELS, Privacy.LAB))
