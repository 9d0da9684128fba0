"""What an OTLP exporter is told: arguments before variables, those for traces before those for all signals."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from clew import ConfigurationError
from clew.exporters._otlp_settings import Endpoint, Settings, settle

NOTHING: dict[str, Any] = dict.fromkeys(
    (
        "endpoint",
        "protocol",
        "headers",
        "timeout",
        "compression",
        "insecure",
        "certificate",
        "client_certificate",
        "client_key",
    )
)
ALL = "OTEL_EXPORTER_OTLP_"
TRACES = "OTEL_EXPORTER_OTLP_TRACES_"


def settings(environment: dict[str, str] | None = None, **arguments: Any) -> Settings:
    return settle(environment or {}, **{**NOTHING, **arguments})


def problem(environment: dict[str, str] | None = None, **arguments: Any) -> str:
    with pytest.raises(ConfigurationError) as caught:
        settings(environment, **arguments)
    return str(caught.value)


def test_the_defaults() -> None:
    """The specification's, and http/protobuf."""
    assert settings() == Settings(
        "http/protobuf",
        Endpoint(False, "localhost", 4318, "/v1/traces"),
        headers=(),
        timeout=10.0,
        compression="none",
        certificate=None,
        client_certificate=None,
        client_key=None,
    )
    assert settings(protocol="grpc").endpoint == Endpoint(False, "localhost", 4317)


@pytest.mark.parametrize(
    ("name", "field", "values"),
    [
        ("PROTOCOL", "protocol", [("grpc", "grpc"), ("HTTP/JSON", "http/json")]),
        ("TIMEOUT", "timeout", [("2500", 2.5), ("10", 0.01), ("0", float("inf"))]),
        ("COMPRESSION", "compression", [("gzip", "gzip"), ("none", "none"), ("zstd", "zstd")]),
        ("HEADERS", "headers", [("a=1,B= 2 ", (("a", "1"), ("b", "2"))), ("a=x%20%3D%2Cy%3D=", (("a", "x =,y=="),))]),
    ],
)
def test_variables(name: str, field: str, values: list[tuple[str, object]]) -> None:
    """Each has its standard meaning; the one for traces counts, and an empty one is none."""
    for value, expected in values:
        assert getattr(settings({ALL + name: value}), field) == expected
        assert getattr(settings({TRACES + name: value, ALL + name: "nonsense"}), field) == expected
        assert getattr(settings({TRACES + name: " ", ALL + name: value}), field) == expected


def test_arguments_come_before_variables() -> None:
    """A variable is not even looked at if there is an argument."""
    wrong = {
        TRACES + name: "?, ?" for name in ("PROTOCOL", "TIMEOUT", "COMPRESSION", "HEADERS", "ENDPOINT", "CERTIFICATE")
    }
    found = settings(
        wrong,
        endpoint="https://a.example",
        protocol="http/json",
        headers={"A": "1"},
        timeout=3,
        compression="none",
        certificate=Path("ca.pem"),
        client_certificate="me.pem",
        client_key="me.key",
    )
    assert found == Settings(
        "http/json",
        Endpoint(True, "a.example", 443, "/v1/traces"),
        (("a", "1"),),
        3.0,
        "none",
        "ca.pem",
        "me.pem",
        "me.key",
    )


@pytest.mark.parametrize(
    ("variable", "value", "shown"),
    [
        # The examples of the specification, "Endpoint URLs for OTLP/HTTP".
        (ALL, "http://collector:4318", "http://collector:4318/v1/traces"),
        (TRACES, "http://collector:4318", "http://collector:4318/"),
        (TRACES, "https://collector.example.com/v1/metrics", "https://collector.example.com:443/v1/metrics"),
        (ALL, "http://collector:4318/mycollector/", "http://collector:4318/mycollector/v1/traces"),
        (TRACES, "https://collector.example.com/v1/metrics/", "https://collector.example.com:443/v1/metrics/"),
        (ALL, "http://collector/", "http://collector:80/v1/traces"),
        (ALL, "HTTP://Collector:4318", "http://collector:4318/v1/traces"),
        (ALL, "http://[::1]:4318", "http://[::1]:4318/v1/traces"),
        (ALL, "http://münchen.example", "http://xn--mnchen-3ya.example:80/v1/traces"),
        # An argument without a path means a receiver as it is by default; with one, just that.
        ("", "http://collector:4318", "http://collector:4318/v1/traces"),
        ("", "http://collector:4318/", "http://collector:4318/"),
        ("", "http://collector:4318/a/b", "http://collector:4318/a/b"),
    ],
)
def test_endpoints(variable: str, value: str, shown: str) -> None:
    """The path is added to the variable for all signals, and to no other."""
    found = settings({variable + "ENDPOINT": value}) if variable else settings(endpoint=value)
    assert found.endpoint.shown == shown


def test_a_query_is_sent_and_not_shown() -> None:
    """Some receivers want a key there."""
    endpoint = settings({ALL + "ENDPOINT": "http://collector/base/?key=secret"}).endpoint
    assert endpoint.path == "/base/v1/traces?key=secret"
    assert endpoint.shown == "http://collector:80/base/v1/traces"


@pytest.mark.parametrize(
    ("value", "insecure", "expected"),
    [
        ("http://collector:4317", "", Endpoint(False, "collector", 4317)),
        ("http://collector:4317/", "", Endpoint(False, "collector", 4317)),
        ("https://collector:4317", "true", Endpoint(True, "collector", 4317)),
        ("https://[::1]", "", Endpoint(True, "::1", 443)),
        ("collector:4317", "", Endpoint(True, "collector:4317", 0)),
        ("collector:4317", "yes", Endpoint(True, "collector:4317", 0)),
        ("collector:4317", "TRUE", Endpoint(False, "collector:4317", 0)),
        ("dns:///collector:4317", "true", Endpoint(False, "dns:///collector:4317", 0)),
        ("unix:/run/collector.sock", "true", Endpoint(False, "unix:/run/collector.sock", 0)),
    ],
)
def test_endpoints_of_grpc(value: str, insecure: str, expected: Endpoint) -> None:
    """A URL says whether there is TLS; of gRPC's other forms the variable INSECURE does."""
    environment = {ALL + "ENDPOINT": value, ALL + "INSECURE": insecure, ALL + "PROTOCOL": "grpc"}
    assert settings(environment).endpoint == expected


def test_the_target_of_a_url() -> None:
    """What gRPC is given, and what is shown."""
    assert settings(endpoint="https://[::1]:4317", protocol="grpc").endpoint.target == "[::1]:4317"
    assert settings(endpoint="https://[::1]:4317", protocol="grpc").endpoint.shown == "https://[::1]:4317"
    plain = settings(endpoint="collector:4317", protocol="grpc", insecure=True).endpoint
    assert (plain.secure, plain.target, plain.shown) == (False, "collector:4317", "collector:4317")


@pytest.mark.parametrize(
    ("environment", "arguments", "words"),
    [
        ({}, {"protocol": "http"}, "protocol is http/protobuf, http/json or grpc, not 'http'."),
        ({}, {"protocol": 1}, "protocol is http/protobuf, http/json or grpc, not 1."),
        ({TRACES + "PROTOCOL": "x"}, {}, "OTEL_EXPORTER_OTLP_TRACES_PROTOCOL is"),
        ({}, {"compression": "br"}, "compression is none, gzip or zstd, not 'br'."),
        ({}, {"compression": "zstd", "protocol": "grpc"}, "compression is zstd, which gRPC does not know"),
        ({}, {"timeout": 0}, "timeout is a number of seconds above 0, not 0."),
        ({}, {"timeout": float("nan")}, "timeout is a number of seconds above 0"),
        ({}, {"timeout": "10"}, "timeout is a number of seconds above 0"),
        ({ALL + "TIMEOUT": "1.5"}, {}, "OTEL_EXPORTER_OTLP_TIMEOUT is a whole number of milliseconds, not '1.5'."),
        ({ALL + "TIMEOUT": "-1"}, {}, "a whole number of milliseconds"),
        ({ALL + "TIMEOUT": "²"}, {}, "a whole number of milliseconds"),
        ({}, {"endpoint": ""}, "endpoint is a URL"),
        ({}, {"endpoint": 4318}, "endpoint is a URL"),
        ({}, {"endpoint": "localhost:4318"}, "endpoint begins with http:// or https://; not 'localhost:4318'."),
        ({}, {"endpoint": "ftp://localhost"}, "endpoint begins with http:// or https://"),
        ({}, {"endpoint": "http://"}, "endpoint names a host"),
        ({}, {"endpoint": "http://a b"}, "endpoint names a host"),
        ({}, {"endpoint": "http://" + "a" * 70}, "endpoint names a host"),
        ({}, {"endpoint": "http://a:0"}, "endpoint names a host"),
        ({}, {"endpoint": "http://a:65536"}, "endpoint is a URL, such as"),
        ({}, {"endpoint": "http://[::1"}, "endpoint is a URL, such as"),
        ({}, {"endpoint": "http://a/ü"}, "endpoint is a URL in ASCII"),
        ({ALL + "ENDPOINT": "http://a/b c"}, {}, "OTEL_EXPORTER_OTLP_ENDPOINT is a URL in ASCII"),
        ({}, {"endpoint": "http://a/v1/traces", "protocol": "grpc"}, "endpoint has no path with gRPC"),
        ({}, {"endpoint": "a b", "protocol": "grpc"}, "endpoint is a URL in ASCII"),
        ({}, {"insecure": True}, "insecure is for gRPC"),
        ({}, {"insecure": True, "endpoint": "http://a", "protocol": "grpc"}, "insecure is for endpoints without"),
        ({}, {"headers": "a=1"}, "headers is a mapping of strings"),
        ({}, {"headers": {"a b": "1"}}, "headers has a name that no header can have: 'a b'."),
        ({}, {"headers": {1: "1"}}, "headers has a name that no header can have: 1."),
        ({}, {"headers": {"Content-Length": "1"}}, "headers has Content-Length, which the exporter sets itself"),
        ({}, {"headers": {"a": 1}}, "headers has a value for a that no header can have"),
        ({}, {"headers": {"grpc-timeout": "1S"}, "protocol": "grpc"}, "which the exporter sets itself"),
        ({}, {"headers": {"a-bin": "1"}, "protocol": "grpc"}, "gRPC takes no text in headers that end in -bin"),
        ({}, {"headers": {"a": "ü"}, "protocol": "grpc"}, "that no header can have"),
        ({ALL + "HEADERS": "a=1, b"}, {}, 'its item 2 has no "=".'),
        ({ALL + "HEADERS": "a=%0D%0Ab: c"}, {}, "OTEL_EXPORTER_OTLP_HEADERS has a value for a that no header"),
        ({}, {"certificate": "ca.pem"}, "certificate is for TLS, and http://localhost:4318/v1/traces goes without"),
        ({}, {"client_key": "a", "endpoint": "https://a"}, "client_key is the key of a client_certificate"),
        ({}, {"certificate": "", "endpoint": "https://a"}, "certificate is the path of a file"),
        ({}, {"certificate": b"a", "endpoint": "https://a"}, "certificate is the path of a file"),
    ],
)
def test_mistakes(environment: dict[str, str], arguments: dict[str, Any], words: str) -> None:
    """A wrong value is one sentence, which names the argument or the variable."""
    assert words in problem(environment, **arguments)


def test_secrets_are_in_no_error_and_no_repr() -> None:
    """Values of headers, passwords and queries are not repeated."""
    for environment, arguments in (
        ({ALL + "HEADERS": "s3cret"}, {}),
        ({ALL + "HEADERS": "key=s3cret%00"}, {}),
        ({ALL + "HEADERS": "content-type=s3cret"}, {}),
        ({}, {"headers": {"key": "s3cret\n"}}),
        ({}, {"endpoint": "http://me:s3cret@host"}),
        ({}, {"endpoint": "https://s3cret@host"}),
        ({}, {"endpoint": "ftp://host/?key=s3cret"}),
        ({}, {"endpoint": "http://me:s3cret@host:x"}),
    ):
        assert "s3cret" not in problem(environment, **arguments)
    assert "s3cret" not in repr(settings(headers={"key": "s3cret"}, endpoint="http://host/?key=s3cret"))
    assert settings(headers={"key": "s3cret"}).hide("you sent s3cret") == "you sent ***"


def test_variables_for_tls_do_not_matter_without_it() -> None:
    """They are for all signals, some of which may go elsewhere."""
    environment = {ALL + "CERTIFICATE": "a", ALL + "CLIENT_KEY": "b", TRACES + "CLIENT_CERTIFICATE": "c"}
    assert settings(environment).certificate is None
    assert settings({**environment, ALL + "ENDPOINT": "https://a"})[5:] == ("a", "c", "b")


@given(
    st.text(max_size=30), st.sampled_from(["ENDPOINT", "HEADERS", "TIMEOUT", "PROTOCOL", "COMPRESSION"]), st.booleans()
)
def test_any_text_in_a_variable(text: str, name: str, grpc: bool) -> None:
    """There are settings, or a sentence."""
    try:
        found = settings({ALL + name: text}, protocol="grpc" if grpc else None)
    except ConfigurationError as error:
        assert str(error).endswith(".")  # noqa: PT017 - an error is as good
    else:
        assert found.endpoint.shown.isascii()


@given(
    st.dictionaries(
        st.text("abcdefghijklmnopqrstuvwxyz-", min_size=1).map("x-".__add__),
        st.text(st.characters(min_codepoint=0x21, max_codepoint=0x7E), min_size=1),
        max_size=4,
    )
)
def test_headers_come_back(headers: dict[str, str]) -> None:
    """What W3C baggage's encoding writes is read, whatever is in the values."""
    from urllib.parse import quote

    text = ",".join(f"{name} = {quote(value, safe='')}" for name, value in headers.items())
    assert dict(settings({ALL + "HEADERS": text}).headers) == headers
