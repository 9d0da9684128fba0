"""A real tor that hangs: it closes nothing and answers nothing."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from queue import Queue
from typing import TYPE_CHECKING

import pytest

from clew import Status
from clew.errors import ControlConnectionError, TorError
from clew.testing import capture_spans
from clew.tor.control import ControlClient
from clew.tor.mapper import EVENTS, TorMapper
from clew.tor.privacy import Privacy

if TYPE_CHECKING:
    from collections.abc import Iterator

    from clew.tor.lab import Lab

pytestmark = pytest.mark.tor


@contextlib.contextmanager
def stopped(lab: Lab, name: str) -> Iterator[None]:
    """A node's tor does nothing meanwhile."""
    pid = lab.node(name).pid
    assert pid is not None
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


def test_a_tor_that_hangs_is_noticed(lab: Lab) -> None:
    """With a heartbeat the connection is lost, what is open ends with that, and a new connection can be made later."""
    lost: Queue[TorError] = Queue()
    with capture_spans("tor") as captured:
        mapper = TorMapper(captured.tracer, Privacy.LAB)
        with ControlClient.connect(lab.control, timeout=1, heartbeat=0.1) as client:

            def end(reason: TorError) -> None:
                mapper.close("CONNECTION_LOST")
                lost.put(reason)

            client.add_listener(mapper.handle)
            client.on_disconnect(end)
            client.set_events(EVENTS)
            with stopped(lab, "guard1"), stopped(lab, "guard2"):  # so that a circuit is being built for some time
                client.extend_circuit(purpose="general")
                deadline = time.monotonic() + 60
                while mapper.counts.open == 0 and time.monotonic() < deadline:
                    time.sleep(0.01)
                with stopped(lab, "client"):
                    reason = lost.get(timeout=60)
                    assert isinstance(reason, ControlConnectionError)
                    assert "has not answered for 1 s: it hangs" in str(reason)
        assert mapper.counts.open == 0
        # tor may have built others of its own meanwhile.
        builds = [record for record in captured.records if record.name == "tor.circuit.build"]
        ends = {(build.status, build.attributes.get("error.type")) for build in builds}
        assert (Status.ERROR, "connection_lost") in ends
    with ControlClient.connect(lab.control) as client:
        assert client.get_info("version")
