"""Replies -> typed events."""

from __future__ import annotations

import dataclasses
from typing import NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from clew.errors import ControlProtocolError
from clew.tor.events import (
    BootstrapEvent,
    BuildTimeoutEvent,
    CircuitBandwidthEvent,
    CircuitEvent,
    CircuitMinorEvent,
    Event,
    HsDescEvent,
    OrConnEvent,
    Relay,
    StatusEvent,
    StreamBandwidthEvent,
    StreamEvent,
    UnknownEvent,
    parse_event,
    without_credentials,
)
from clew.tor.wire import ControlParser, Reply

NOW = 1_700_000_000_123_456_789

FINGERPRINTS = ("A" * 40, "0123456789ABCDEF0123456789ABCDEF01234567", "C" * 40)
GUARD, MIDDLE, EXIT = (Relay(key, name) for key, name in zip(FINGERPRINTS, ("guard", "middle", "exit"), strict=True))
PATH = ",".join(f"${relay.fingerprint}~{relay.nickname}" for relay in (GUARD, MIDDLE, EXIT))

ONION = "abcdefghijklmnopqrstuvwxyz234567abcdefghijklmnopqrstuvid"
BLINDED = "03YVqktkttmUwRacRweCP/ufLXEO3nZX0CMIt5GP/jQ"


class Sample(NamedTuple):
    """Lines as tor sends them, the event they are, and twins that lack what the event cannot be without."""

    raw: str
    event: Event
    malformed: tuple[str, ...] = ()


SAMPLES = {
    "launched": Sample(
        "650 CIRC 7 LAUNCHED BUILD_FLAGS=NEED_CAPACITY PURPOSE=GENERAL TIME_CREATED=2023-11-14T22:13:20.123456",
        CircuitEvent(
            NOW,
            "7",
            "LAUNCHED",
            build_flags=("NEED_CAPACITY",),
            purpose="GENERAL",
            time_created_ns=1_700_000_000_123_456_000,
        ),
        (
            "650 CIRC",
            "650 CIRC 7",
            "650 CIRC  LAUNCHED",
            "650 CIRC 7 ",
            "650 CIRC 7_ LAUNCHED",
            "650 CIRC é LAUNCHED",
            "650 CIRC 12345678901234567 LAUNCHED",
            '650 CIRC 7 LAUNCHED PURPOSE="GENERAL',
        ),
    ),
    "extended": Sample(
        f"650 CIRC 7 EXTENDED ${GUARD.fingerprint}~guard,${MIDDLE.fingerprint}~middle "
        "BUILD_FLAGS=IS_INTERNAL,NEED_CAPACITY,NEED_UPTIME PURPOSE=HS_VANGUARDS",
        CircuitEvent(
            NOW,
            "7",
            "EXTENDED",
            (GUARD, MIDDLE),
            ("IS_INTERNAL", "NEED_CAPACITY", "NEED_UPTIME"),
            "HS_VANGUARDS",
        ),
    ),
    "built leg of a conflux set": Sample(
        f"650 CIRC 9 BUILT {PATH} PURPOSE=CONFLUX_LINKED CONFLUX_ID=DEADBEEF00112233 CONFLUX_RTT=1234",
        CircuitEvent(
            NOW,
            "9",
            "BUILT",
            (GUARD, MIDDLE, EXIT),
            purpose="CONFLUX_LINKED",
            conflux_id="DEADBEEF00112233",
            conflux_rtt_us=1234,
        ),
    ),
    "failed": Sample(
        f"650 CIRC 8 FAILED ${GUARD.fingerprint}~guard PURPOSE=GENERAL REASON=DESTROYED REMOTE_REASON=OR_CONN_CLOSED",
        CircuitEvent(
            NOW, "8", "FAILED", (GUARD,), purpose="GENERAL", reason="DESTROYED", remote_reason="OR_CONN_CLOSED"
        ),
    ),
    "onion service": Sample(
        f"650 CIRC 10 CLOSED {PATH} PURPOSE=HS_CLIENT_REND HS_STATE=HSCR_JOINED REND_QUERY={'a' * 56} REASON=FINISHED",
        CircuitEvent(
            NOW,
            "10",
            "CLOSED",
            (GUARD, MIDDLE, EXIT),
            purpose="HS_CLIENT_REND",
            hs_state="HSCR_JOINED",
            rend_query="a" * 56,
            reason="FINISHED",
        ),
    ),
    "alphanumeric id, unknown everything": Sample(
        "650 CIRC 7fX FUTURE PURPOSE=NEW_PURPOSE BUILD_FLAGS=NEW_FLAG,X SHINY=1 0xBEEF A==b HS_POW=v1,17",
        CircuitEvent(
            NOW,
            "7fX",
            "FUTURE",
            build_flags=("NEW_FLAG", "X"),
            purpose="NEW_PURPOSE",
            extra={"SHINY": "1", "0xBEEF": "", "A": "=b", "HS_POW": "v1,17"},
        ),
    ),
    "values that are not what they should be are kept": Sample(
        "650 CIRC 7 LAUNCHED TIME_CREATED=yesterday CONFLUX_RTT=fast",
        CircuitEvent(NOW, "7", "LAUNCHED", extra={"TIME_CREATED": "yesterday", "CONFLUX_RTT": "fast"}),
    ),
    "several lines": Sample(
        "650-CIRC 1000 EXTENDED moria1,moria2 0xBEEF\r\n650-EXTRAMAGIC=99\r\n"
        "650+BLOCK=\r\na\r\nb\r\n.\r\n650 ANONYMITY=high",
        CircuitEvent(
            NOW,
            "1000",
            "EXTENDED",
            (Relay("", "moria1"), Relay("", "moria2")),
            extra={"0xBEEF": "", "EXTRAMAGIC": "99", "BLOCK": "a\nb", "ANONYMITY": "high"},
        ),
    ),
    "names of relays in every form": Sample(
        f"650 CIRC 1 BUILT ${'a' * 40},${'B' * 40}=named,${'C' * 40}~,nick,$short~x,$",
        CircuitEvent(
            NOW,
            "1",
            "BUILT",
            (
                Relay("A" * 40, ""),
                Relay("B" * 40, "named"),
                Relay("C" * 40, ""),
                Relay("", "nick"),
                Relay("", "$short~x"),
                Relay("", "$"),
            ),
        ),
    ),
    "purpose changed": Sample(
        f"650 CIRC_MINOR 5 PURPOSE_CHANGED ${GUARD.fingerprint}~guard BUILD_FLAGS=IS_INTERNAL PURPOSE=HS_CLIENT_REND "
        "HS_STATE=HSCR_CONNECTING TIME_CREATED=1970-01-01T00:00:01.5 "
        "OLD_PURPOSE=HS_CLIENT_HSDIR OLD_HS_STATE=HSCI_DONE",
        CircuitMinorEvent(
            NOW,
            "5",
            "PURPOSE_CHANGED",
            (GUARD,),
            ("IS_INTERNAL",),
            "HS_CLIENT_REND",
            "HSCR_CONNECTING",
            time_created_ns=1_500_000_000,
            old_purpose="HS_CLIENT_HSDIR",
            old_hs_state="HSCI_DONE",
        ),
        ("650 CIRC_MINOR 5", "650 CIRC_MINOR ! CANNIBALIZED"),
    ),
    "cannibalized": Sample(
        "650 CIRC_MINOR 5 CANNIBALIZED PURPOSE=HS_CLIENT_HSDIR OLD_PURPOSE=HS_VANGUARDS",
        CircuitMinorEvent(NOW, "5", "CANNIBALIZED", purpose="HS_CLIENT_HSDIR", old_purpose="HS_VANGUARDS"),
    ),
    "new stream": Sample(
        "650 STREAM 21 NEW 0 example.com:443 SOURCE_ADDR=127.0.0.1:40000 PURPOSE=USER "
        "CLIENT_PROTOCOL=SOCKS5 NYM_EPOCH=0",
        StreamEvent(
            NOW,
            "21",
            "NEW",
            "0",
            "example.com:443",
            source_addr="127.0.0.1:40000",
            purpose="USER",
            client_protocol="SOCKS5",
            extra={"NYM_EPOCH": "0"},
        ),
        ("650 STREAM 21 NEW 0", "650 STREAM 21 NEW # example.com:443", "650 STREAM"),
    ),
    "stream closed": Sample(
        "650 STREAM 21 CLOSED 9 example.com:443 REASON=END REMOTE_REASON=DONE SOURCE=EXIT",
        StreamEvent(NOW, "21", "CLOSED", "9", "example.com:443", "END", "DONE", "EXIT"),
    ),
    "or connection": Sample(
        f"650 ORCONN ${GUARD.fingerprint}~guard FAILED REASON=CONNECTREFUSED NCIRCS=3 ID=12",
        OrConnEvent(NOW, f"${GUARD.fingerprint}~guard", "FAILED", "CONNECTREFUSED", 3, "12"),
        ("650 ORCONN", f"650 ORCONN ${GUARD.fingerprint}~guard"),
    ),
    "bootstrap": Sample(
        '650 STATUS_CLIENT NOTICE BOOTSTRAP PROGRESS=80 TAG=ap_conn SUMMARY="Connecting to a \\"relay\\" to build"',
        BootstrapEvent(NOW, "NOTICE", 80, "ap_conn", 'Connecting to a "relay" to build'),
        (
            "650 STATUS_CLIENT NOTICE",
            "650 STATUS_CLIENT NOTICE BOOTSTRAP TAG=x",
            "650 STATUS_CLIENT NOTICE BOOTSTRAP PROGRESS=half",
            '650 STATUS_CLIENT NOTICE BOOTSTRAP PROGRESS=1 SUMMARY="Connecting',
        ),
    ),
    "bootstrap problem": Sample(
        '650 STATUS_CLIENT WARN BOOTSTRAP PROGRESS=5 TAG=conn SUMMARY="Connecting" WARNING="Connection refused" '
        f'REASON=CONNECTREFUSED COUNT=2 RECOMMENDATION=warn HOST="{GUARD.fingerprint}" HOSTADDR="127.0.0.1:9"',
        BootstrapEvent(
            NOW,
            "WARN",
            5,
            "conn",
            "Connecting",
            "Connection refused",
            "CONNECTREFUSED",
            2,
            "warn",
            GUARD.fingerprint,
            "127.0.0.1:9",
        ),
    ),
    "bootstrap problem, as tor 0.4 writes it": Sample(
        '650 STATUS_CLIENT WARN BOOTSTRAP PROGRESS=5 TAG=conn SUMMARY="Connecting" WARNING="Connection refused" '
        f'REASON=CONNECTREFUSED COUNT=2 RECOMMENDATION=warn HOSTID="{GUARD.fingerprint}" HOSTADDR="127.0.0.1:9"',
        BootstrapEvent(
            NOW,
            "WARN",
            5,
            "conn",
            "Connecting",
            "Connection refused",
            "CONNECTREFUSED",
            2,
            "warn",
            GUARD.fingerprint,
            "127.0.0.1:9",
        ),
    ),
    "status": Sample(
        "650 STATUS_GENERAL WARN CLOCK_SKEW SKEW=-3600 SOURCE=DIRSERV:127.0.0.1:7000",
        StatusEvent(NOW, "STATUS_GENERAL", "WARN", "CLOCK_SKEW", {"SKEW": "-3600", "SOURCE": "DIRSERV:127.0.0.1:7000"}),
        ("650 STATUS_GENERAL WARN",),
    ),
    "build timeout": Sample(
        "650 BUILDTIMEOUT_SET COMPUTED TOTAL_TIMES=124 TIMEOUT_MS=9019 XM=1375 ALPHA=0.855662 CUTOFF_QUANTILE=0.800000 "
        "TIMEOUT_RATE=0.137097 CLOSE_MS=21850 CLOSE_RATE=0.072581",
        BuildTimeoutEvent(
            NOW, "COMPUTED", 124, 9019, 0.8, 0.137097, 21850, 0.072581, {"XM": "1375", "ALPHA": "0.855662"}
        ),
        ("650 BUILDTIMEOUT_SET",),
    ),
    "descriptor asked for": Sample(
        f"650 HS_DESC REQUESTED {ONION} NO_AUTH ${GUARD.fingerprint}~guard {BLINDED} HSDIR_INDEX={'E3A5' * 16}",
        HsDescEvent(NOW, "REQUESTED", ONION, "NO_AUTH", GUARD, BLINDED, index="E3A5" * 16),
        ("650 HS_DESC", "650 HS_DESC REQUESTED", "650 HS_DESC REQUESTED ", f"650 HS_DESC  {ONION} NO_AUTH"),
    ),
    "descriptor not there": Sample(
        f"650 HS_DESC FAILED {ONION} NO_AUTH ${GUARD.fingerprint}~guard {BLINDED} REASON=NOT_FOUND",
        HsDescEvent(NOW, "FAILED", ONION, "NO_AUTH", GUARD, BLINDED, "NOT_FOUND"),
    ),
    "descriptor made": Sample(
        f"650 HS_DESC CREATED {ONION} UNKNOWN UNKNOWN {BLINDED} REPLICA=1 NEWER=x",
        HsDescEvent(NOW, "CREATED", ONION, "UNKNOWN", None, BLINDED, replica=1, extra={"NEWER": "x"}),
    ),
    "descriptor uploaded": Sample(
        f"650 HS_DESC UPLOADED {ONION} UNKNOWN ${GUARD.fingerprint}~guard",
        HsDescEvent(NOW, "UPLOADED", ONION, "UNKNOWN", GUARD),
    ),
    "descriptor of no known address": Sample(
        f"650 HS_DESC FAILED UNKNOWN NO_AUTH ${GUARD.fingerprint} REASON=UNEXPECTED REPLICA=none",
        HsDescEvent(
            NOW, "FAILED", None, "NO_AUTH", Relay(GUARD.fingerprint), reason="UNEXPECTED", extra={"REPLICA": "none"}
        ),
    ),
    "descriptor, barely": Sample(
        f"650 HS_DESC IGNORE {ONION} REASON=NEWER", HsDescEvent(NOW, "IGNORE", ONION, reason="NEWER")
    ),
    "stream's bytes": Sample(
        "650 STREAM_BW 16 93 74286 2023-11-14T22:13:20.123456",
        StreamBandwidthEvent(NOW, "16", 93, 74286, 1_700_000_000_123_456_000),
        (
            "650 STREAM_BW",
            "650 STREAM_BW 16",
            "650 STREAM_BW 16 93",
            "650 STREAM_BW 16_ 93 0",
            "650 STREAM_BW 16 -93 0",
            "650 STREAM_BW 16 93 ²",
        ),
    ),
    "stream's bytes, of an older tor": Sample("650 STREAM_BW 16 93 0", StreamBandwidthEvent(NOW, "16", 93, 0)),
    "stream's bytes, of a newer tor": Sample(
        "650 STREAM_BW 16 93 0 noon CELLS=4",
        StreamBandwidthEvent(NOW, "16", 93, 0, extra={"noon": "", "CELLS": "4"}),
    ),
    "circuit's bytes": Sample(
        "650 CIRC_BW ID=4 READ=1527 WRITTEN=1018 TIME=2023-11-14T22:13:20.123456 DELIVERED_READ=187 SS=1",
        CircuitBandwidthEvent(NOW, "4", 1527, 1018, 1_700_000_000_123_456_000, {"DELIVERED_READ": "187", "SS": "1"}),
        ("650 CIRC_BW", "650 CIRC_BW READ=1527", "650 CIRC_BW ID= READ=1", "650 CIRC_BW ID=4_ READ=1"),
    ),
    "circuit's bytes, odd ones": Sample(
        "650 CIRC_BW ID=4 READ=many TIME=2023-11-14T22:13:20.12345é",
        CircuitBandwidthEvent(NOW, "4", extra={"READ": "many", "TIME": "2023-11-14T22:13:20.12345é"}),
    ),
    "unknown": Sample("650 BW 1024 2048", UnknownEvent(NOW, "BW", "BW 1024 2048")),
    "unknown with several lines": Sample(
        "650-CONF_CHANGED\r\n650-SocksPort=9050\r\n650+X=\r\ny\r\n.\r\n650 OK",
        UnknownEvent(NOW, "CONF_CHANGED", "CONF_CHANGED\nSocksPort=9050\nX=\ny\nOK"),
    ),
    "unknown with an open quotation mark": Sample(
        '650 NOTICE a lone " and more', UnknownEvent(NOW, "NOTICE", 'NOTICE a lone " and more')
    ),
    "empty": Sample("650 ", UnknownEvent(NOW, "", "")),
}


def read(raw: str) -> Reply:
    """The reply that some lines are."""
    parser = ControlParser()
    parser.feed(raw.encode("utf-8", "surrogateescape") + b"\r\n")
    reply = parser.next_reply()
    assert reply is not None
    return reply


def parse(raw: str) -> Event:
    """The event that some lines are."""
    return parse_event(read(raw), NOW)


@pytest.mark.parametrize("name", SAMPLES)
def test_sample(name: str) -> None:
    """Each sample gives its event, with the time of arrival and tor's own word for the type."""
    sample = SAMPLES[name]
    event = parse(sample.raw)
    assert event == sample.event
    assert event.raw_type == sample.raw.split("\r\n")[0][4:].split(" ")[0]


@pytest.mark.parametrize("raw", [twin for sample in SAMPLES.values() for twin in sample.malformed])
def test_malformed_twin(raw: str) -> None:
    """An event without what it cannot be understood without is an error that tells nothing of its content."""
    with pytest.raises(ControlProtocolError) as caught:
        parse(raw)
    assert "12345678901234567" not in str(caught.value)
    assert "example.com" not in str(caught.value)


@pytest.mark.parametrize("name", SAMPLES)
def test_frozen(name: str) -> None:
    """Events are values: hashable, without a dict of their own, and not to be changed, as type checkers tell."""
    event = SAMPLES[name].event
    copy = dataclasses.replace(event)
    assert (copy, hash(copy)) == (event, hash(event))
    assert not hasattr(event, "__dict__")
    copy.time_ns = 0  # type: ignore[misc]
    assert copy != event


SECRET = "hunter2"
CREDENTIALS = [
    f'SOCKS_USERNAME="{SECRET}" SOCKS_PASSWORD="{SECRET}"',
    f'SOCKS_PASSWORD="a \\" SOCKS_USERNAME=\\"{SECRET} PURPOSE={SECRET}"',
    f"SOCKS_USERNAME={SECRET}",
    f'SOCKS_USERNAME="{SECRET} and never closed',
    f'SOCKS_USERNAME="\\\\" SOCKS_PASSWORD="{SECRET}\\\\"',
]


@pytest.mark.parametrize("credentials", CREDENTIALS)
@pytest.mark.parametrize(
    "line",
    [
        f"650 CIRC 7 BUILT {PATH} PURPOSE=GENERAL {{}}",
        f"650 CIRC 7 BUILT {PATH} {{}} PURPOSE=GENERAL",
        "650 CIRC_MINOR 7 CANNIBALIZED {}",
        "650 STREAM 21 NEW 0 example.com:443 {} PURPOSE=USER",
        "650 STATUS_CLIENT NOTICE SOCKS_BAD_HOSTNAME {}",
        "650 FUTURE 1 {}",
        "650 {} FUTURE",
        "650-CIRC 7 BUILT\r\n650 {}",
        "650-CIRC 7 BUILT\r\n650 NEW=1 {}",
        "650-CIRC 7 BUILT\r\n650+NEW=\r\n{}\r\n.\r\n650 OK",
        "650-FUTURE\r\n650+NEW=\r\n{}\r\n.\r\n650 OK",
    ],
)
def test_credentials(line: str, credentials: str) -> None:
    """No event holds what a SOCKS client gave as user name and password, whatever the event is."""
    raw = line.format(credentials)
    event = parse(raw)
    assert SECRET not in repr(event)
    reply = without_credentials(read(raw))
    assert SECRET not in repr(reply)
    if not isinstance(event, UnknownEvent):
        assert parse_event(reply, NOW) == event


def test_credentials_cost_nothing_else() -> None:
    """What stands around the credentials is read as if they were not there."""
    event = parse(f"650 CIRC 7 BUILT {PATH} {CREDENTIALS[1]} PURPOSE=GENERAL {CREDENTIALS[0]} REASON=NONE")
    assert event == parse(f"650 CIRC 7 BUILT {PATH} PURPOSE=GENERAL REASON=NONE")


def test_names_of_the_fields_stay() -> None:
    """A list of field names (ISO_FIELDS, control-spec 4.1.2) is no credential."""
    event = parse("650 STREAM 1 NEW 0 a:1 ISO_FIELDS=SOCKS_USERNAME,SOCKS_PASSWORD,CLIENTADDR")
    assert isinstance(event, StreamEvent)
    assert event.extra == {"ISO_FIELDS": "SOCKS_USERNAME,SOCKS_PASSWORD,CLIENTADDR"}


def test_long_paths_are_not_remembered() -> None:
    """A path longer than tor's is parsed like others."""
    event = parse("650 CIRC 7 BUILT " + ",".join([f"${GUARD.fingerprint}~guard"] * 100))
    assert isinstance(event, CircuitEvent)
    assert event.path == (GUARD,) * 100


@given(
    st.sampled_from([sample.raw for sample in SAMPLES.values()]),
    st.lists(
        st.tuples(st.integers(0, 400), st.sampled_from(["", " ", "=", '"', "\\", ",", "$", "~", "é", "\udcff", "0"]))
    ),
)
def test_damaged(raw: str, damages: list[tuple[int, str]]) -> None:
    """However a line is damaged behind its type, it gives an event, or the one exception."""
    for position, text in damages:
        place = 8 + position % max(len(raw) - 7, 1)
        raw = raw[:place] + text + raw[place + 1 :]
    raw = "650 " + raw[4:].replace("\r\n", " ")
    try:
        event = parse(raw)
    except ControlProtocolError:
        return
    assert event.time_ns == NOW


@given(
    st.sampled_from(
        [
            "CIRC",
            "CIRC_MINOR",
            "STREAM",
            "ORCONN",
            "STATUS_CLIENT",
            "BUILDTIMEOUT_SET",
            "HS_DESC",
            "STREAM_BW",
            "CIRC_BW",
            "OTHER",
        ]
    ),
    st.text(st.characters(exclude_characters="\r\n", exclude_categories=["Cs"])),
)
def test_any_text(keyword: str, text: str) -> None:
    """Any text behind the type gives an event, or the one exception."""
    try:
        parse(f"650 {keyword} {text}")
    except ControlProtocolError:
        return
