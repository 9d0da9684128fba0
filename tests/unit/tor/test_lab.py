"""`Lab` while it is down."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from clew.errors import LabError
from clew.tor.lab import Lab, OnionService
from clew.tor.lab_config import Layout, Role, Seat, plan
from clew.tor.lab_directory import LabDirectory, RunRecord
from clew.tor.lab_process import ProcessMark


def write(path: Path, *, owner: ProcessMark) -> None:
    """What a lab leaves on disk while it is up."""
    directory = LabDirectory(path)
    directory.acquire()
    directory.write_layout(Layout(plan(1, 3)))
    service = Seat("service1", Role.SERVICE, onion_port=80, target_port=8000, onion_address="x.onion")
    coming = Seat("service2", Role.SERVICE, onion_port=81, target_port=8001)
    nodes = {"guard1": owner, "service1": owner}
    directory.write_run(
        RunRecord(owner, is_keeper=True, since=1.0, is_ready=True, nodes=nodes, services=(service, coming))
    )
    directory.release()


def me() -> ProcessMark:
    mark = ProcessMark.of(os.getpid())
    assert mark is not None
    return mark


def test_a_lab_that_never_was(tmp_path: Path) -> None:
    """It is down, has no nodes, and can be ended; looking at it makes no directory."""
    lab = Lab(tmp_path / "lab")
    status = lab.status()
    assert (status.is_up, status.is_ready, status.owner, status.nodes) == (False, False, None, ())
    assert lab.nodes == ()
    with pytest.raises(LabError, match="no node client"):
        _ = lab.socks_port
    lab.down()
    assert list(tmp_path.iterdir()) == []


def test_a_lab_of_another_process(tmp_path: Path) -> None:
    """Anybody can see that it is up and where; to stop its nodes one must hold it."""
    write(tmp_path / "lab", owner=me())
    lab = Lab(tmp_path / "lab")
    status = lab.status()
    assert (status.is_up, status.is_ready, status.is_keeper, status.since) == (True, True, True, 1.0)
    assert [node.name for node in status.nodes] == [
        *("auth1", "guard1", "middle1", "exit1", "client"),
        *("service1", "service2"),
    ]
    control = str(tmp_path / "lab" / "nodes" / "service1" / "control")
    assert status.onion_services == (OnionService("service1", "x.onion", 80, 8000, control),)
    assert lab.node("service1").pid == os.getpid()
    assert lab.node("guard1").pid == os.getpid()
    assert lab.node("auth1").pid is None
    assert lab.control == str(tmp_path / "lab" / "nodes" / "client" / "control")
    for act in (lab.stop_node, lab.start_node):
        with pytest.raises(LabError, match="not up in this program"):
            act("guard1")
    with pytest.raises(LabError, match="not up in this program"):
        lab.add_onion_service(80, 8000)


def test_a_lab_whose_owner_was_killed(tmp_path: Path) -> None:
    """It is down, whatever is on disk; also if another process has its owner's id by now."""
    write(tmp_path / "lab", owner=me()._replace(started=0))
    status = Lab(tmp_path / "lab").status()
    assert (status.is_up, status.is_ready, status.is_keeper, status.since) == (False, False, False, None)
    assert all(node.pid is None for node in status.nodes)


def test_the_directory_is_absolute(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """tor changes its own, and a process may."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", "/home/clew")
    assert Lab("lab").directory == tmp_path / "lab"
    assert Lab("~/lab").directory == Path("/home/clew/lab")


def test_a_directory_that_is_too_deep(tmp_path: Path) -> None:
    """Found at once, not when tor is started."""
    with pytest.raises(LabError, match="choose a shorter one"):
        Lab(tmp_path / ("x" * 100))
