"""What the attributes of tor's spans tell, and what each level of privacy does with it: two tables.

What is not declared here counts as telling. What an application's own spans say is in `conventions.py`.
"""

from __future__ import annotations

from enum import Enum
from typing import NamedTuple

__all__ = ["ATTRIBUTES", "LEVEL_ATTRIBUTE", "RULES", "Attribute", "Content", "Rule"]

# On the resource of whatever passed a level, and on every build span, whose resource may be somebody else's.
LEVEL_ATTRIBUTE = "clew.privacy.level"


class Content(Enum):
    """What a value tells. The values are what the documentation shows."""

    MEASURE = "a number, a duration, a yes or no"
    KEYWORD = "a word of tor's protocol"
    BYTES = "an amount of traffic"
    ID = "an id that counts up within one run of tor"
    MACHINE = "what marks one machine, or one run of tor"
    RELAY = "a relay"
    RELAY_LABEL = "a relay's nickname"
    GUARD = "the guard"
    GUARD_LABEL = "the guard's nickname"
    DESTINATION = "where the user goes"
    CLIENT = "where the user is, or who"
    TEXT = "free text"
    CODE = "a name in the program's own code"
    LABEL = "a name that the operator chose"
    VERSION = "a version"
    APPLICATION = "anything else that an application says"
    SECRET = "what opens something"  # noqa: S105 - a kind of value
    UNDECLARED = "anything else"


class Rule(Enum):
    """What is done with a value."""

    KEEP = "kept"
    HASH = "hashed"
    SEARCH = "kept but for what tells in it"
    BUCKET = "rounded up to a power of four"
    DROP = "dropped"


_K, _H, _S, _B, _D = Rule.KEEP, Rule.HASH, Rule.SEARCH, Rule.BUCKET, Rule.DROP

# For each content: at ANONYMOUS, PSEUDONYMOUS, OPERATOR, LAB.
RULES: dict[Content, tuple[Rule, Rule, Rule, Rule]] = {
    Content.MEASURE: (_K, _K, _K, _K),
    Content.KEYWORD: (_K, _K, _K, _K),
    Content.BYTES: (_B, _K, _K, _K),
    # It tells how many circuits the user's tor has made, and joins what left the machine to what stayed there.
    Content.ID: (_D, _K, _K, _K),
    # A clock's error is much the same for days: it recognises a machine, behind tor too.
    Content.MACHINE: (_D, _K, _K, _K),
    Content.RELAY: (_D, _H, _K, _K),
    # Its fingerprint's hash tells relays apart; a hash of a chosen name, often the same for many, adds nothing.
    Content.RELAY_LABEL: (_D, _D, _K, _K),
    # Guards are few and stay for months: who knows a user's guards can recognise the user, and knows where to watch.
    Content.GUARD: (_D, _H, _H, _K),
    Content.GUARD_LABEL: (_D, _D, _D, _K),
    Content.DESTINATION: (_D, _H, _K, _K),
    Content.CLIENT: (_D, _H, _H, _K),
    Content.TEXT: (_D, _D, _D, _K),
    # Both are searched too; at ANONYMOUS they are dropped if anything is found.
    Content.CODE: (_K, _K, _K, _K),
    Content.LABEL: (_K, _K, _K, _K),
    Content.VERSION: (_K, _K, _K, _K),
    Content.APPLICATION: (_D, _S, _S, _K),
    Content.SECRET: (_D, _D, _D, _D),
    Content.UNDECLARED: (_D, _H, _H, _K),
}


class Attribute(NamedTuple):
    """One row of the table of attributes."""

    name: str  # ends with ".*" where the rest of the name comes from tor
    content: Content
    meaning: str
    at_guard: Content | None = None  # what it tells where the relay is, or may be, the guard


_C = Content
ATTRIBUTES: tuple[Attribute, ...] = (
    # --- circuits
    Attribute("tor.circuit.id", _C.ID, "tor's id of the circuit"),
    Attribute("tor.circuit.purpose", _C.KEYWORD, "GENERAL, HS_CLIENT_REND, CONFLUX_LINKED, ...; the last one seen"),
    Attribute("tor.circuit.old_purpose", _C.KEYWORD, "on the event of a change: the purpose before"),
    Attribute("tor.circuit.build_flags", _C.KEYWORD, "ONEHOP_TUNNEL, IS_INTERNAL, NEED_CAPACITY, NEED_UPTIME"),
    Attribute("tor.circuit.hs_state", _C.KEYWORD, "how far an onion-service circuit is"),
    Attribute("tor.circuit.status", _C.KEYWORD, "on an event: a status that clew does not know"),
    Attribute("tor.circuit.reason", _C.KEYWORD, "why it ended, by this tor: TIMEOUT, DESTROYED, CHANNEL_CLOSED, ..."),
    Attribute("tor.circuit.remote_reason", _C.KEYWORD, "why, by the relay that ended it: CONNECTFAILED, ..."),
    Attribute("tor.circuit.hops", _C.MEASURE, "how many hops it has"),
    Attribute("tor.circuit.failed_hop", _C.MEASURE, "the index of the hop that was in progress when it ended"),
    Attribute("tor.circuit.partial", _C.MEASURE, "true: a part of the build was not seen, so times are missing"),
    Attribute("tor.circuit.reused", _C.MEASURE, "true: the circuit was built before, for something else"),
    Attribute("tor.circuit.age_ms", _C.MEASURE, "how old the circuit was when the span began (milliseconds)"),
    Attribute("tor.circuit.extra.*", _C.UNDECLARED, "a keyword of a CIRC event that clew does not know"),
    Attribute("tor.conflux.id", _C.UNDECLARED, "what the legs of a conflux set share with each other and the exit"),
    Attribute("tor.conflux.rtt_us", _C.MEASURE, "round-trip time of the leg (microseconds)"),
    Attribute("tor.hop.index", _C.MEASURE, "1 for the guard"),
    Attribute("tor.hop.role", _C.KEYWORD, "guard, middle, exit, end, introduction, rendezvous, directory"),
    Attribute("tor.relay.fingerprint", _C.RELAY, "the relay's identity, 40 hex digits", _C.GUARD),
    Attribute("tor.relay.nickname", _C.RELAY_LABEL, "the name its operator chose", _C.GUARD_LABEL),
    Attribute("tor.relay.country", _C.RELAY, "where the relay is", _C.GUARD),
    Attribute("tor.relay.address", _C.RELAY, "the relay's address", _C.GUARD),
    # --- what tor waits by
    Attribute("tor.cbt.timeout_ms", _C.MEASURE, "how long tor waits for a build (milliseconds)"),
    Attribute("tor.cbt.quantile", _C.MEASURE, "the share of builds that tor expects within that time (0 to 1)"),
    Attribute("tor.cbt.timeout_rate", _C.MEASURE, "the share of builds that took longer (0 to 1)"),
    # --- streams
    Attribute("tor.stream.id", _C.ID, "tor's id of the stream"),
    Attribute("tor.stream.purpose", _C.KEYWORD, "USER, DIR_FETCH, DIR_UPLOAD, DIRPORT_TEST, DNS_REQUEST"),
    Attribute("tor.stream.client_protocol", _C.KEYWORD, "SOCKS4, SOCKS5, HTTPCONNECT, TRANS, DNS, ..."),
    Attribute("tor.stream.nym_epoch", _C.ID, "how many NEWNYM signals tor had when the stream came"),
    Attribute("tor.stream.session_group", _C.ID, "the listener that it came by, as a number of tor's"),
    Attribute(
        "tor.stream.iso_fields", _C.KEYWORD, "what keeps it apart from other streams: CLIENTADDR, NYM_EPOCH, ..."
    ),
    Attribute("tor.stream.status", _C.KEYWORD, "on an event: a status that clew does not know"),
    Attribute("tor.stream.reason", _C.KEYWORD, "why it ended or was detached: END, TIMEOUT, RESOLVEFAILED, ..."),
    Attribute("tor.stream.remote_reason", _C.KEYWORD, "why, by the relay at the circuit's end: CONNECTREFUSED, ..."),
    Attribute("tor.stream.source", _C.KEYWORD, "on the event remap: CACHE or EXIT"),
    Attribute("tor.stream.retries", _C.MEASURE, "how often it was detached from a circuit"),
    Attribute("tor.stream.circuits_failed", _C.MEASURE, "how many circuits failed that it may have waited for"),
    Attribute("tor.stream.partial", _C.MEASURE, "true: its beginning was not seen"),
    Attribute("tor.stream.bytes_read", _C.BYTES, "bytes received"),
    Attribute("tor.stream.bytes_written", _C.BYTES, "bytes sent"),
    Attribute("tor.stream.extra.*", _C.UNDECLARED, "a keyword of a STREAM event that clew does not know"),
    # --- onion services
    Attribute("tor.hs.address", _C.DESTINATION, "the onion service, without .onion"),
    Attribute("tor.hs.auth_type", _C.KEYWORD, "NO_AUTH, BASIC_AUTH, STEALTH_AUTH, UNKNOWN"),
    Attribute("tor.hs.reason", _C.KEYWORD, "why a descriptor was not had: NOT_FOUND, BAD_DESC, UPLOAD_REJECTED, ..."),
    Attribute("tor.hs.directory.fingerprint", _C.RELAY, "the directory's identity, 40 hex digits"),
    Attribute("tor.hs.directory.nickname", _C.RELAY_LABEL, "the name its operator chose"),
    Attribute("tor.hs.uploads", _C.MEASURE, "to how many directories the descriptor was sent"),
    Attribute("tor.hs.uploads_failed", _C.MEASURE, "how many of them did not take it"),
    # Both can be computed by who knows the address, and so tell whether this is it.
    Attribute("tor.hs.descriptor_id", _C.DESTINATION, "under what the directory knows the service"),
    Attribute("tor.hs.descriptor_index", _C.DESTINATION, "where in the ring of directories the descriptor is"),
    Attribute("tor.hs.replica", _C.MEASURE, "which of the descriptor's copies"),
    Attribute("tor.hs.extra.*", _C.UNDECLARED, "a keyword of HS_DESC that clew does not know"),
    # --- tor as a whole
    Attribute("tor.bootstrap.progress", _C.MEASURE, "percent"),
    Attribute("tor.bootstrap.tag", _C.KEYWORD, "conn, handshake_done, done, ..."),
    Attribute("tor.bootstrap.reason", _C.KEYWORD, "why tor does not get on: NOROUTE, TIMEOUT, ..."),
    Attribute("tor.bootstrap.recommendation", _C.KEYWORD, "warn, ignore"),
    Attribute("tor.bootstrap.count", _C.MEASURE, "problems in this phase so far"),
    Attribute("tor.bootstrap.summary", _C.TEXT, "what tor does next, for people"),
    Attribute("tor.bootstrap.warning", _C.TEXT, "the problem, for people"),
    Attribute("tor.bootstrap.host", _C.GUARD, "the relay that tor could not get on with, 40 hex digits"),
    Attribute("tor.bootstrap.host_address", _C.GUARD, "its address"),
    Attribute("tor.bootstrap.partial", _C.MEASURE, "true: its beginning was not seen"),
    Attribute("tor.bootstrap.extra.*", _C.UNDECLARED, "a keyword of BOOTSTRAP that clew does not know"),
    Attribute("tor.orconn.id", _C.ID, "tor's id of the connection"),
    Attribute("tor.orconn.status", _C.KEYWORD, "on an event: a status that clew does not know"),
    Attribute("tor.orconn.reason", _C.KEYWORD, "why it ended: DONE, CONNECTREFUSED, IDENTITY, TIMEOUT, ..."),
    Attribute("tor.orconn.circuits", _C.MEASURE, "how many circuits it carries or shall carry"),
    Attribute("tor.orconn.address", _C.CLIENT, "the other end, where tor names no relay: a client, or a bridge"),
    Attribute("tor.orconn.partial", _C.MEASURE, "true: its beginning was not seen"),
    Attribute("tor.orconn.extra.*", _C.UNDECLARED, "a keyword of an ORCONN event that clew does not know"),
    Attribute("tor.clock.skew_ms", _C.MACHINE, "how far this machine's clock is off, as tor sees it (milliseconds)"),
    Attribute("tor.instance.id", _C.MACHINE, "one run of tor, as far as clew can tell: made by clew"),
    # --- names of OpenTelemetry's
    Attribute("server.address", _C.DESTINATION, "the destination's name or address"),
    Attribute("server.port", _C.DESTINATION, "the destination's port: as telling as its name"),
    Attribute("url.full", _C.DESTINATION, "path and query too"),
    Attribute("network.peer.address", _C.CLIENT, "the SOCKS proxy"),
    Attribute("network.peer.port", _C.CLIENT, "the SOCKS proxy's port"),
    Attribute("network.local.address", _C.CLIENT, "the application's own address"),
    Attribute("network.local.port", _C.CLIENT, "the application's own port"),
    Attribute("network.transport", _C.KEYWORD, "tcp, unix"),
    Attribute("network.type", _C.KEYWORD, "ipv4, ipv6"),
    Attribute("exception.message", _C.TEXT, "what an exception says"),
    Attribute("exception.stacktrace", _C.TEXT, "where it came from, and what it says"),
    Attribute("error.type", _C.KEYWORD, "tor's reason, lower case; also timeout, reply_552, connection_lost, ..."),
    Attribute("clew.simulated", _C.MEASURE, "true: there was no tor"),
    Attribute("clew.unfinished", _C.MEASURE, "true: the end was not seen"),
    Attribute(LEVEL_ATTRIBUTE, _C.KEYWORD, "the level, lower case: anonymous, pseudonymous, operator, lab"),
)
