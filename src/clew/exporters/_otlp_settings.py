"""What an OTLP exporter is told, by arguments and by the standard environment variables.

Source: OpenTelemetry specification 1.58, "OpenTelemetry Protocol Exporter", "Common configuration specification".
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, NamedTuple, NoReturn
from urllib.parse import unquote, urlsplit

from clew.errors import ConfigurationError
from clew.limits import OTLP_TIMEOUT_SECONDS

if TYPE_CHECKING:
    import os
    from collections.abc import Iterator, Mapping
    from urllib.parse import SplitResult

__all__ = ["Endpoint", "Settings", "settle"]

PROTOCOLS = ("http/protobuf", "http/json", "grpc")
COMPRESSIONS = ("none", "gzip", "zstd")

# Of each pair the one for traces goes before the one for all signals.
_PREFIXES = ("OTEL_EXPORTER_OTLP_TRACES_", "OTEL_EXPORTER_OTLP_")
_PORTS = {"http": 80, "https": 443}
_PATH = "/v1/traces"

# RFC 9110, sections 5.1 and 5.5: a name is a token, a value has no control characters.
_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_VALUE = re.compile(r"[\t\x20-\x7e\x80-\xff]*")
_METADATA_VALUE = re.compile(r"[\x20-\x7e]*")
_HOST = re.compile(r"[0-9A-Za-z._~%:-]+")
_USER = re.compile(r"//.*@")
_VISIBLE = re.compile(r"[\x21-\x7e]+")
# What the exporter says itself.
_RESERVED = {
    "connection",
    "content-encoding",
    "content-length",
    "content-type",
    "expect",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
}


class Endpoint(NamedTuple):
    """Where spans are sent to."""

    secure: bool  # by TLS
    host: str  # a name or an address, without brackets; or a target of gRPC's own forms, then the port is 0
    port: int
    path: str = ""  # and query, as in the line of an HTTP request

    @property
    def target(self) -> str:
        """Host and port, as in a URL."""
        if not self.port:
            return self.host
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    @property
    def shown(self) -> str:
        """A text for people, without the query, in which some receivers want a key."""
        if not self.port:
            return self.host
        return f"http{'s' if self.secure else ''}://{self.target}{self.path.partition('?')[0]}"


class Settings(NamedTuple):
    """All of it, checked."""

    protocol: str
    endpoint: Endpoint
    headers: tuple[tuple[str, str], ...]  # names in lower case
    timeout: float  # seconds, infinitely many for no limit
    compression: str
    certificate: str | None
    client_certificate: str | None
    client_key: str | None

    def hide(self, text: str) -> str:
        """Cut out what a receiver may have quoted of our headers, and of the endpoint's query."""
        values = [item.partition("=")[2] for item in self.endpoint.path.partition("?")[2].split("&")]
        # Word by word: of "Bearer abcd" it is the second that matters. What has three letters is no secret.
        words = {word for value in values + [value for _, value in self.headers] for word in value.split()}
        for secret in sorted(words, key=len, reverse=True):
            if len(secret) > 3:
                text = text.replace(secret, "***")
        return text

    def __repr__(self) -> str:
        # Headers hold keys and passwords, which nothing may print.
        return f"<Settings of {self.endpoint.shown}>"


def settle(
    environment: Mapping[str, str],
    *,
    endpoint: str | None,
    protocol: str | None,
    headers: Mapping[str, str] | None,
    timeout: float | None,
    compression: str | None,
    insecure: bool | None,
    certificate: str | os.PathLike[str] | None,
    client_certificate: str | os.PathLike[str] | None,
    client_key: str | os.PathLike[str] | None,
) -> Settings:
    """What holds: of each setting the argument, or else the variable for traces, or else the one for all signals.

    Raises: ConfigurationError, which names the argument or the variable, and no header's value.
    """
    variables = _Variables(environment)
    _, given = _choice(variables, "protocol", protocol, PROTOCOLS)
    found = _endpoint(variables, given, endpoint, insecure)
    if found.secure:
        files = {
            "certificate": _path(variables, "certificate", certificate),
            "client_certificate": _path(variables, "client_certificate", client_certificate),
            "client_key": _path(variables, "client_key", client_key),
        }
        if files["client_key"] is not None and files["client_certificate"] is None:
            raise ConfigurationError(
                "client_key is the key of a client_certificate, and there is none; name both files."
            )
    else:
        files = dict.fromkeys(("certificate", "client_certificate", "client_key"))
        arguments = {"certificate": certificate, "client_certificate": client_certificate, "client_key": client_key}
        for argument, value in arguments.items():
            # The variables are for all signals, some of which may go elsewhere: those do not matter here.
            if value is not None:
                raise ConfigurationError(f"{argument} is for TLS, and {found.shown} goes without; use https://.")
    where, compressed = _choice(variables, "compression", compression, COMPRESSIONS)
    if given == "grpc" and compressed == "zstd":
        raise ConfigurationError(f"{where} is zstd, which gRPC does not know; use gzip.")
    return Settings(
        protocol=given,
        endpoint=found,
        headers=_headers(variables, headers, grpc=given == "grpc"),
        timeout=_timeout(variables, timeout),
        compression=compressed,
        **files,
    )


class _Variables:
    """The environment, seen by a signal's exporter."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        self._environment = environment

    def find(self, name: str) -> tuple[str, str] | None:
        """The variable that counts, and its value; an empty one is as good as none (specification, "Parsing empty")."""
        for prefix in _PREFIXES:
            variable = prefix + name.upper()
            if value := self._environment.get(variable, "").strip():
                return variable, value
        return None


def _choice(variables: _Variables, name: str, argument: str | None, choices: tuple[str, ...]) -> tuple[str, str]:
    """Who says it, and what; the first choice is the default."""
    found: tuple[str, object] | None = (name, argument) if argument is not None else variables.find(name)
    if found is None:
        return name, choices[0]
    where, value = found
    chosen = value.lower() if isinstance(value, str) else value
    if not isinstance(chosen, str) or chosen not in choices:
        raise ConfigurationError(f"{where} is {', '.join(choices[:-1])} or {choices[-1]}, not {value!r}.")
    return where, chosen


# --- where to --------------------------------------------------------------------------------------------------------


def _endpoint(variables: _Variables, protocol: str, argument: str | None, insecure: bool | None) -> Endpoint:
    where, url = ("endpoint", argument) if argument is not None else variables.find("endpoint") or ("", "")
    if argument is not None and (not isinstance(argument, str) or not argument):
        raise ConfigurationError(f'endpoint is a URL, such as "http://localhost:4318", not {argument!r}.')
    if protocol == "grpc":
        return _grpc_endpoint(variables, where, url or "http://localhost:4317", insecure)
    if insecure is not None:
        raise ConfigurationError("insecure is for gRPC; with HTTP the endpoint says it, by http:// or https://.")
    parts = _split(where, url or "http://localhost:4318")
    if parts.scheme not in _PORTS:
        _reject(where, "begins with http:// or https://", url)
    path = parts.path
    if where == "OTEL_EXPORTER_OTLP_ENDPOINT":
        path = path.rstrip("/") + _PATH  # "Endpoint URLs for OTLP/HTTP": a base, whatever its path
    elif not path:
        # A variable means the root, says the specification. An argument is ours to define, and nobody listens there.
        path = "/" if where.startswith("OTEL_") else _PATH
    if parts.query:
        path += "?" + parts.query
    if not _VISIBLE.fullmatch(path):
        _reject(where, "is a URL in ASCII, without spaces", url)
    return Endpoint(parts.scheme == "https", *_host_and_port(where, url, parts), path)


def _grpc_endpoint(variables: _Variables, where: str, url: str, insecure: bool | None) -> Endpoint:
    if "://" not in url or url.partition("://")[0].lower() not in _PORTS:
        # A form of gRPC's own, such as "collector:4317", "dns:///collector:4317" or "unix:/run/collector.sock".
        if insecure is None:
            insecure = (variables.find("insecure") or ("", ""))[1].lower() == "true"
        if not _VISIBLE.fullmatch(url):
            _reject(where, "is a URL in ASCII, without spaces", url)
        return Endpoint(not insecure, url, 0)
    if insecure is not None:
        raise ConfigurationError("insecure is for endpoints without http:// or https://, which say it themselves.")
    parts = _split(where, url)
    if parts.path not in ("", "/") or parts.query:
        _reject(where, "has no path with gRPC: its port, 4317 by default, is all there is", url)
    return Endpoint(parts.scheme == "https", *_host_and_port(where, url, parts))


def _split(where: str, url: str) -> SplitResult:
    try:
        parts = urlsplit(url)
        _ = parts.port
    except ValueError:
        _reject(where, 'is a URL, such as "http://localhost:4318"', url)
    if parts.username is not None or parts.password is not None:
        raise ConfigurationError(
            f'{where} has a name or a password in it; put them in headers: {{"authorization": "Basic ..."}}.'
        )
    return parts


def _host_and_port(where: str, url: str, parts: SplitResult) -> tuple[str, int]:
    try:
        # Loads the codec that resolving a name needs too: the worker is to import nothing.
        host = (parts.hostname or "").encode("idna").decode()
    except UnicodeError:
        host = ""
    if not _HOST.fullmatch(host) or parts.port == 0:
        _reject(where, 'names a host, as in "http://localhost:4318"', url)
    return host, parts.port or _PORTS[parts.scheme]


def _reject(where: str, rule: str, url: str) -> NoReturn:
    # The query can hold a key, and what stands before the host a password.
    shown = _USER.sub("//***@", url.partition("?")[0])
    raise ConfigurationError(f"{where} {rule}; not {shown!r}.")


# --- headers, time, files --------------------------------------------------------------------------------------------


def _headers(variables: _Variables, argument: Mapping[str, str] | None, *, grpc: bool) -> tuple[tuple[str, str], ...]:
    if argument is not None:
        where = "headers"
        items = getattr(argument, "items", None)
        if items is None:
            raise ConfigurationError('headers is a mapping of strings, such as {"x-api-key": "..."}.')
        pairs = list(items())
    else:
        where, text = variables.find("headers") or ("", "")
        pairs = list(_pairs(where, text))
    checked: dict[str, str] = {}
    for name, value in pairs:
        if not isinstance(name, str) or not _TOKEN.fullmatch(name):
            raise ConfigurationError(f"{where} has a name that no header can have: {name!r}.")
        key = name.lower()
        if key in _RESERVED or (grpc and key.startswith(("grpc-", ":"))):
            raise ConfigurationError(f"{where} has {name}, which the exporter sets itself; leave it out.")
        allowed = _METADATA_VALUE if grpc else _VALUE
        if not isinstance(value, str) or not allowed.fullmatch(value):
            raise ConfigurationError(f"{where} has a value for {name} that no header can have; use ASCII, on one line.")
        if grpc and key.endswith("-bin"):
            raise ConfigurationError(f"{where} has {name}, and gRPC takes no text in headers that end in -bin.")
        checked[key] = value.strip(" \t")
    return tuple(checked.items())


def _pairs(where: str, text: str) -> Iterator[tuple[str, str]]:
    """`key1=value1,key2=value2`, percent-encoded (W3C baggage, without its properties)."""
    for number, item in enumerate(text.split(","), start=1):
        if not item.strip():
            continue
        name, equals, value = item.partition("=")
        if not equals:
            # Not the item itself: it may be a key whose name was forgotten.
            raise ConfigurationError(f'{where} is like "name=value,other=value"; its item {number} has no "=".')
        yield unquote(name.strip()), unquote(value.strip())


def _timeout(variables: _Variables, argument: float | None) -> float:
    if argument is not None:
        if isinstance(argument, bool) or not isinstance(argument, (int, float)) or not argument > 0:
            raise ConfigurationError(f"timeout is a number of seconds above 0, not {argument!r}.")
        return float(argument)
    if (found := variables.find("timeout")) is None:
        return OTLP_TIMEOUT_SECONDS
    where, text = found
    if not (text.isascii() and text.isdigit()) or len(text) > 15:
        raise ConfigurationError(f"{where} is a whole number of milliseconds, not {text!r}.")
    # "Timeout": zero is no limit.
    return int(text) / 1000 or float("inf")


def _path(variables: _Variables, name: str, argument: str | os.PathLike[str] | None) -> str | None:
    if argument is None:
        return (variables.find(name) or ("", None))[1]
    path = getattr(argument, "__fspath__", lambda: argument)()
    if not isinstance(path, str) or not path:
        raise ConfigurationError(f"{name} is the path of a file in PEM form, not {argument!r}.")
    return path
