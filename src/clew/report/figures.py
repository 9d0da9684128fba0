"""The distributions that a report shows: what each is called, and the sentence that says what it means."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from clew.report.phases import PARTS
from clew.tor.bootstrap import BOOTSTRAP_SPAN
from clew.tor.onion import CONNECT_SPAN as ONION_SPAN
from clew.tor.onion import Phase
from clew.tor.orconn import ORCONN_SPAN
from clew.tor.streams import ATTACH_SPAN, CONNECT_SPAN, RESOLVE_SPAN, TRANSFER_SPAN

if TYPE_CHECKING:
    from collections.abc import Mapping

    from clew.report.distribution import Summary

__all__ = [
    "ALL",
    "CIRCUIT_BUILD",
    "CIRCUIT_HOP",
    "EXIT",
    "FIGURES",
    "FIRST_BYTE",
    "HOPS_NAMED",
    "LAST_BYTE",
    "LINKS",
    "ONION",
    "ONION_PHASES",
    "SERVICE_PHASES",
    "STREAM_STEPS",
    "Figure",
    "label_of",
    "series_shown",
]

FIRST_BYTE = "time_to_first_byte"
LAST_BYTE = "time_to_last_byte"
STREAM_STEPS = "stream_steps"
CIRCUIT_BUILD = "circuit_build"
CIRCUIT_HOP = "circuit_hop"
ONION_PHASES = "onion_phases"
SERVICE_PHASES = "service_phases"
LINKS = "links"

# Hops that have a series of their own: tor's circuits have up to four, a program may ask for up to eight.
HOPS_NAMED = 8

# Series of requests; the first one also of circuits.
ALL, ONION, EXIT = "all", "onion", "exit"


class Figure(NamedTuple):
    """A chart: several distributions on one axis."""

    key: str
    section: str
    title: str
    sentence: str
    labels: Mapping[str, str]  # of the series that are known, in their order; others follow under their own keys


_REQUESTS = {ALL: "all requests", EXIT: "to other destinations", ONION: "to onion services"}

FIGURES = (
    Figure(
        FIRST_BYTE,
        "requests",
        "Time to first byte",
        "From the start of a request to the first byte of the answer. Read it so: where a curve crosses 50 %, half of "
        "the requests had their first byte by then.",
        _REQUESTS,
    ),
    Figure(
        LAST_BYTE,
        "requests",
        "Time to last byte",
        "From the start of a request to its end, for requests that succeeded.",
        _REQUESTS,
    ),
    Figure(
        STREAM_STEPS,
        "requests",
        "Steps of a stream",
        "Each of the programs' streams waits for a circuit (attach), then for the destination's answer at the far end "
        "of it (connect, or resolve for a name alone), and is open from then on.",
        {ATTACH_SPAN: "attach", CONNECT_SPAN: "connect", RESOLVE_SPAN: "resolve", TRANSFER_SPAN: "open"},
    ),
    Figure(
        CIRCUIT_BUILD,
        "circuits",
        "Circuit build time",
        "How long tor took to build whole circuits, by what they were for; those that failed, or that were made out of "
        "another one, are not in it.",
        {
            ALL: "all circuits",
            "GENERAL": "general",
            "CONFLUX_LINKED": "conflux leg",
            "CONFLUX_UNLINKED": "conflux leg, not linked",
            "HS_CLIENT_HSDIR": "onion: descriptor",
            "HS_CLIENT_INTRO": "onion: introduction",
            "HS_CLIENT_REND": "onion: rendezvous",
            "HS_SERVICE_HSDIR": "service: descriptor",
            "HS_SERVICE_INTRO": "service: introduction",
            "HS_SERVICE_REND": "service: rendezvous",
            "HS_VANGUARDS": "vanguards, in reserve",
            "MEASURE_TIMEOUT": "given up, measured",
            "TESTING": "testing",
        },
    ),
    Figure(
        CIRCUIT_HOP,
        "circuits",
        "Time per hop",
        "How long each hop took to be added to its circuit. Hop 1 is the guard; connecting to it is part of it.",
        {str(hop): f"hop {hop}" for hop in range(1, HOPS_NAMED + 1)},
    ),
    Figure(
        LINKS,
        "circuits",
        "Connections and bootstrap",
        "How long tor took to connect to other relays, and to get ready after its start.",
        {ORCONN_SPAN: "connection to a relay", BOOTSTRAP_SPAN: "bootstrap"},
    ),
    Figure(
        ONION_PHASES,
        "onion",
        "Onion connection phases",
        "How long each phase of the way to an onion service took. Phases run side by side, so they do not add up to "
        "the whole as the parts of a bar do.",
        {ONION_SPAN: "whole connection", **PARTS},
    ),
    Figure(
        SERVICE_PHASES,
        "onion",
        "The service's side",
        "What this tor did for its own onion services: publish descriptors, establish introduction points, meet "
        "clients at their rendezvous points.",
        {
            Phase.PUBLISH: "publish a descriptor",
            Phase.INTRO_ESTABLISH: "establish an introduction point",
            Phase.RENDEZVOUS: "reach a rendezvous point",
        },
    ),
)

_BY_KEY = {figure.key: figure for figure in FIGURES}


def label_of(figure: str, series: str) -> str:
    """What a series is called for people."""
    return _BY_KEY[figure].labels.get(series, series)


def series_shown(figure: str, series: Mapping[str, Summary]) -> dict[str, Summary]:
    """The series that are worth a curve: where all requests are of one kind, this kind is the same as all."""
    if figure in (FIRST_BYTE, LAST_BYTE) and not (ONION in series and EXIT in series):
        return {key: summary for key, summary in series.items() if key == ALL}
    return dict(series)
