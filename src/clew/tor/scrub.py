"""Goes over spans that ended, of an application or of tor, and leaves what one level of privacy allows.

tor's own spans passed a filter before they were queued; here they pass another of the same level, which changes
nothing, or of a lower one. A span in which nothing has to be changed is passed on as the bytes that it came as.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from operator import is_
from types import MappingProxyType
from typing import TYPE_CHECKING, TypeVar

from clew import limits
from clew.model import Resource
from clew.otlp import Batch, encode_span
from clew.tor.attributes import LEVEL_ATTRIBUTE, RULES, Content, Rule
from clew.tor.conventions import row_of, row_of_tor
from clew.tor.places import relay_of_exit_name
from clew.tor.privacy import PLAUSIBLE, Privacy, bucket
from clew.tor.telling import Search

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from clew.model import Attributes, AttributeValue, Event, Link, SpanRecord
    from clew.tor.privacy import PrivacyFilter

__all__ = ["Scrubber"]

_T = TypeVar("_T")

_NOTHING: AttributeValue = MappingProxyType({})  # known by its identity

# Compared for every attribute. To look a member up in its class takes ten times as long as a global.
_DROP, _SEARCH, _HASHED, _BUCKET = Rule.DROP, Rule.SEARCH, Rule.HASH, Rule.BUCKET
_DESTINATION, _CLIENT, _OF_CODE, _LABELS = Content.DESTINATION, Content.CLIENT, Content.CODE, Content.LABEL

# What spans are called that clew makes of tor's events and of the commands it sends. Their descriptions are clew's.
_OURS = re.compile(r"tor\.[a-z.]+|(?:create|extend|close)-circuit")

# At ANONYMOUS a name keeps the words that it begins with, as long as they are the program's own by their looks.
_WORD = re.compile(r"[A-Za-z_]{1,32}\d{0,2}(?:[.:-][A-Za-z_]{1,32}\d{0,2}){0,7}")
_MOST_WORDS = 6
_NO_NAME = "hidden"

_CODE = re.compile(r"[\w<][\w.<>:+-]{0,127}")
_LABEL = re.compile(r"\w[\w .:+()-]{0,63}")
_VERSION = re.compile(r"(?:[A-Za-z]{1,8}/)?v?\d[\w.+~!-]{0,47}")
_HASH = re.compile(r"hash:[0-9a-f]{16}")


def _matches(pattern: re.Pattern[str]) -> Callable[[object], bool]:
    return lambda value: isinstance(value, str) and pattern.fullmatch(value) is not None


_PLAUSIBLE = {
    **PLAUSIBLE,
    Content.CODE: _matches(_CODE),
    Content.LABEL: _matches(_LABEL),
    Content.VERSION: _matches(_VERSION),
}

# Whose values name a host, to be recognised in the texts of all spans.
_HOSTS = frozenset(
    (
        "server.address",
        "url.full",
        "url.domain",
        "http.url",
        "http.host",
        "net.peer.name",
        "peer.service",
        "dns.question.name",
        "tls.client.server_name",
    )
)
_HOST_OF_URL = re.compile(r"[^:/]+://(?:[^/?#]*@)?([^/?#:]+)")

# At LAB only secrets are looked for, and a batch without one of these has none.
_USER = re.compile(rb"://[!-.0-?A-~]{1,512}@")
_USER_AND_PASSWORD = re.compile(rb":[!-.0-9;-?A-~]{1,254}@[\w\[]")
_HINTS = tuple(
    hint.encode()
    for hint in (
        "passw",
        "passph",
        "pwd",
        "secret",
        "token",
        "cookie",
        "credential",
        "auth",
        "key",
        "socks_",
        "25519",
        "rsa1024",
        "bearer",
        "basic ",
        "digest ",
    )
)


def _may_have_secrets(spans: bytes) -> bool:
    if _USER.search(spans) is not None or _USER_AND_PASSWORD.search(spans) is not None:
        return True
    lower = spans.lower()
    return any(hint in lower for hint in _HINTS)


class _Plan:
    """What is done with an attribute at one level."""

    __slots__ = ("at_guard", "content", "is_plausible", "name", "otherwise", "rule", "say")

    def __init__(self, name: str, say: str, level: Privacy, *, is_ours: bool) -> None:
        row = row_of_tor(name) if is_ours else row_of(name)
        self.name = name
        self.say = say  # the name that it gets
        self.content = row.content
        self.rule = RULES[row.content][level]
        self.at_guard = self.rule if row.at_guard is None else RULES[row.at_guard][level]
        self.is_plausible = _PLAUSIBLE.get(row.content)
        is_of_tor = is_ours or name.startswith("tor.")
        self.otherwise = RULES[Content.UNDECLARED if is_of_tor else Content.APPLICATION][level]


class Scrubber:
    """Applies the level of a filter to spans.

    Args:
        privacy: the level, the key of the hashes, and the places that are known.

    Thread: one at a time.
    """

    def __init__(self, privacy: PrivacyFilter) -> None:
        self.privacy = privacy
        self._level = privacy.level
        self._is_lab, self._is_anonymous = privacy.level is Privacy.LAB, privacy.level is Privacy.ANONYMOUS
        self._search = Search(privacy)
        self._plans: tuple[dict[str, _Plan], dict[str, _Plan]] = {}, {}  # for spans of applications, and for ours
        self._known_places = 0
        self._resource: tuple[Resource, Resource] | None = None  # the last one, and what became of it

    def scrub(self, batch: Batch) -> tuple[Batch, int]:
        """The batch as its level allows, and how many spans had to be left out because something failed on them."""
        spans, lost = batch.spans, 0
        if not self._is_lab or _may_have_secrets(spans):
            spans, lost = self._spans(batch)
        return Batch(spans, batch.count - lost, self.resource(batch.resource), batch.scope), lost

    def resource(self, resource: Resource) -> Resource:
        """What is told of what made the spans; it says the level."""
        known = self._resource
        if known is None or known[0] is not resource:
            attributes = {**self.attributes(resource.attributes), LEVEL_ATTRIBUTE: self.privacy.level_name}
            known = self._resource = resource, Resource(attributes)
        return known[1]

    def _spans(self, batch: Batch) -> tuple[bytes, int]:
        records = batch.records
        if self._level < Privacy.OPERATOR:
            for record in records:
                self._learn(record.attributes)
            if self._known_places != self.privacy.places.additions:
                self._known_places = self.privacy.places.additions
                self._forget_plans()  # names of attributes may have some of them
        kept: list[bytes] = []
        lost = 0
        for record, raw in zip(records, _split(batch.spans), strict=True):
            try:
                scrubbed = self.record(record)
                kept.append(raw if scrubbed is record else encode_span(scrubbed))
            except Exception:  # noqa: BLE001 - what cannot be scrubbed must not go out, and the others must
                lost += 1
        return b"".join(kept), lost

    def _learn(self, attributes: Attributes) -> None:
        for name in _HOSTS.intersection(attributes):
            value = attributes[name]
            if isinstance(value, str):
                match = _HOST_OF_URL.match(value)
                self.privacy.places.add(value if match is None else match[1])

    # --- a span -----------------------------------------------------------------------------------------------------

    def record(self, record: SpanRecord) -> SpanRecord:
        """The span as its level allows; the same object if nothing has to be changed."""
        name = self._name(record.name)
        is_ours = _OURS.fullmatch(record.name) is not None
        attributes = self.attributes(record.attributes, is_ours=is_ours)
        events = _each(self._our_event if is_ours else self._event, record.events)
        links = _each(self._link, record.links)
        description = self._description(record) if record.status_description else ""
        state = record.trace_state if self._level >= Privacy.OPERATOR else ""
        if (
            attributes is record.attributes
            and events is record.events
            and links is record.links
            and (name, description, state) == (record.name, record.status_description, record.trace_state)
        ):
            return record
        return record._replace(
            name=name,
            attributes=attributes,
            events=events,
            links=links,
            status_description=description,
            trace_state=state,
        )

    def _our_event(self, event: Event) -> Event:
        return self._event(event, is_ours=True)

    def _event(self, event: Event, *, is_ours: bool = False) -> Event:
        name, attributes = self._name(event.name), self.attributes(event.attributes, is_ours=is_ours)
        if name is event.name and attributes is event.attributes:
            return event
        return event._replace(name=name, attributes=attributes)

    def _link(self, link: Link) -> Link:
        attributes, context = self.attributes(link.attributes), link.context
        if context.trace_state and self._level < Privacy.OPERATOR:
            context = context._replace(trace_state="")
        if attributes is link.attributes and context is link.context:
            return link
        return link._replace(attributes=attributes, context=context)

    def _name(self, name: str) -> str:
        clean = self._search.clean(name)
        if not self._is_anonymous:
            return clean
        words: list[str] = []
        for word in name.split()[:_MOST_WORDS]:
            if _WORD.fullmatch(word) is None or self._search.clean(word) != word:
                break
            words.append(word)
        said = " ".join(words)
        return said if said or not name else _NO_NAME

    def _description(self, record: SpanRecord) -> str:
        """Why it failed. What an application says is most often an exception's text: of that, its type stays."""
        said = record.status_description
        clean = self._search.clean(said)
        if self._is_lab or (clean == said and _OURS.fullmatch(record.name) is not None):
            return clean
        for event in record.events:
            kind = event.attributes.get("exception.type")
            if isinstance(kind, str) and (said == kind or said.startswith(f"{kind}: ")):
                kept = self.attributes({"exception.type": kind}).get("exception.type")
                return kept if isinstance(kept, str) else ""
        return ""

    # --- attributes -------------------------------------------------------------------------------------------------

    def attributes(self, attributes: Attributes, *, is_ours: bool = False) -> Attributes:
        """The attributes that the level allows; the same object if nothing has to be changed.

        Args:
            is_ours: of a span that clew made of tor's events.
        """
        hop = attributes.get("tor.hop.index", 1)
        may_be_guard = not isinstance(hop, int) or hop <= 1
        plans = self._plans[is_ours]
        kept: dict[str, AttributeValue] = {}
        changed = False
        for name, value in attributes.items():
            plan = plans.get(name)
            if plan is None:
                plan = self._plan(name, is_ours=is_ours)
            told = self._value(plan, value, may_be_guard)
            if told is _NOTHING:
                changed = True
                continue
            if told is not value or plan.say is not name:
                changed = changed or told != value or plan.say != name
            kept[plan.say] = told
        return kept if changed else attributes

    def _plan(self, name: str, *, is_ours: bool) -> _Plan:
        plans = self._plans[is_ours]
        if len(plans) >= limits.SEARCHED_TEXTS:
            plans.clear()
        say = self._search.clean(name, code=True)
        plan = plans[name] = _Plan(name, say, self._level, is_ours=is_ours)
        return plan

    def _forget_plans(self) -> None:
        for plans in self._plans:
            plans.clear()

    def _value(self, plan: _Plan, value: AttributeValue, may_be_guard: bool) -> AttributeValue:
        """What may be told of a value, or _NOTHING."""
        content, rule = plan.content, plan.at_guard if may_be_guard else plan.rule
        if plan.is_plausible is not None and not plan.is_plausible(value):
            content, rule = Content.APPLICATION, plan.otherwise
        elif content is _DESTINATION and isinstance(value, str) and relay_of_exit_name(value) is not None:
            rule = RULES[Content.GUARD if may_be_guard else Content.RELAY][self._level]
        if rule is _DROP:
            return _NOTHING
        if value is None:
            return None
        if isinstance(value, str) and _HASH.fullmatch(value) is not None:
            return value
        if rule is _SEARCH:
            return self._searched(value)
        if rule is _HASHED:
            return self._hashed(plan, value)
        if rule is _BUCKET:
            return bucket(value) if isinstance(value, int) else _NOTHING
        if plan.name == LEVEL_ATTRIBUTE:
            return self._lower_level(value)
        return self._kept(content, value)

    def _kept(self, content: Content, value: AttributeValue) -> AttributeValue:
        """A value that stays, without secrets; a name in code, or a label, without what tells."""
        if (content is _OF_CODE or content is _LABELS) and isinstance(value, str):
            clean = self._search.clean(value, code=content is _OF_CODE)
            return _NOTHING if clean != value and self._is_anonymous else clean
        if self._is_lab:
            return self._searched(value)
        if content is _DESTINATION:
            return self._search.url(value) if isinstance(value, str) else self._searched(value)
        return value

    def _searched(self, value: AttributeValue) -> AttributeValue:
        match value:
            case str():
                return self._search.clean(value)
            case bytes():
                return self._searched_bytes(value)
            case tuple():
                return _each(self._searched, value)
            case Mapping():
                return self.attributes(value)
        return value

    def _searched_bytes(self, value: bytes) -> AttributeValue:
        if not self._is_lab:
            return self.privacy.hash("", value)
        text = value.decode("latin-1")
        clean = self._search.clean(text)
        return value if clean == text else clean

    def _hashed(self, plan: _Plan, value: AttributeValue) -> AttributeValue:
        if isinstance(value, tuple):
            return tuple(self._hashed(plan, item) for item in value)
        name = plan.name
        if plan.content is _DESTINATION:  # whatever it is called, so that equal ones are seen to be equal
            name = "server.port" if isinstance(value, int) else "server.address"
        elif plan.content is _CLIENT and isinstance(value, str):
            name = "network.local.address"
        return self.privacy.hash(name, value)

    def _lower_level(self, value: AttributeValue) -> AttributeValue:
        for level in Privacy:
            if value == level.name.lower() and level < self._level:
                return value
        return self.privacy.level_name


def _each(change: Callable[[_T], _T], items: tuple[_T, ...]) -> tuple[_T, ...]:
    """The same tuple if nothing was changed."""
    changed = tuple(map(change, items))
    return items if all(map(is_, changed, items)) else changed


def _split(spans: bytes) -> Iterator[bytes]:
    """The single fields of concatenated ones: tag, length, span."""
    at, end = 0, len(spans)
    while at < end:
        begin, shift, size = at, 0, 0
        at += 1  # the tag has one byte
        while True:
            byte = spans[at]
            at += 1
            size |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                break
        at += size
        yield spans[begin:at]
