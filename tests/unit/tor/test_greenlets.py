"""Where gevent has replaced threads: no connection to tor is made that would hang the program."""

from __future__ import annotations

import sys
from types import SimpleNamespace

import pytest

from clew.errors import ConfigurationError
from clew.testing import capture_spans
from clew.tor import ControlClient, trace_requests
from clew.tor.greenlets import have_replaced
from tests.fake_tor import FakeTor
from tests.recording_server import RecordingServer
from tests.socks_clients import with_socket


@pytest.fixture
def gevent(monkeypatch: pytest.MonkeyPatch) -> None:
    """As if monkey.patch_all() had been called (without its effects)."""
    patched = SimpleNamespace(is_module_patched=lambda module: module in {"socket", "threading"})
    monkeypatch.setitem(sys.modules, "gevent.monkey", patched)


def test_without_gevent_nothing_is_replaced(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nor with a gevent that was not asked to."""
    assert not have_replaced("socket", "threading")
    monkeypatch.setitem(sys.modules, "gevent.monkey", SimpleNamespace(is_module_patched=lambda _: False))
    assert not have_replaced("socket", "threading")


@pytest.mark.usefixtures("gevent")
def test_no_connection_is_made() -> None:
    """A sentence says what to do."""
    assert have_replaced("os", "threading")
    assert not have_replaced("os")
    with pytest.raises(ConfigurationError, match="clew tor attach"):
        ControlClient.connect("9051")
    with capture_spans() as captured, pytest.raises(ConfigurationError, match="gevent"):
        trace_requests(captured.tracer, "9051")


@pytest.mark.usefixtures("gevent")
def test_another_ones_connection_does() -> None:
    """Streams are joined; only when the first byte came is not told, because who waits for it would not be a thread."""
    with (
        RecordingServer() as server,
        FakeTor({("a.onion", 80): server.address}) as tor,
        capture_spans() as captured,
        trace_requests(captured.tracer, tor.source) as traced,
    ):
        with captured.tracer.start_span("fetch"):
            with_socket(tor.address, "http://a.onion/")
        tor.join()
        assert traced.stats().joined == 1
        assert all(event.name != "first_byte" for record in captured.records for event in record.events)
