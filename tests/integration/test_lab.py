"""The lab: a network of real tors that comes up, can be used, and is gone when whoever started it is."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import stat
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from clew.errors import LabError, TorNotFoundError
from clew.tor import lab_programs, lab_torrc
from clew.tor.control import ControlClient
from clew.tor.events import CircuitEvent
from clew.tor.lab import Lab, LabProgress, OnionService, Role
from clew.tor.lab_config import node_directory, valid_until
from clew.tor.lab_directory import LabDirectory
from clew.tor.lab_knowledge import uploaded_descriptors
from clew.tor.lab_network import Network
from clew.tor.lab_process import find_processes

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from clew.tor.events import Event
    from clew.tor.lab_config import Seat

pytestmark = pytest.mark.tor

# Generous: what is waited for takes a second or so on an idle machine. tor looks for its owner every 15 s.
PATIENCE = 60.0
CLEW = [sys.executable, "-m", "clew.cli.main"]
NAMES = ["auth1", "auth2", "auth3", "guard1", "middle1", "exit1", "guard2", "exit2", "client"]


def wait_until(is_true: Callable[[], bool]) -> None:
    """Wait, but not for ever."""
    deadline = time.monotonic() + PATIENCE
    while not is_true():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def tors(directory: Path) -> int:
    """How many tors run in a lab's directory, whoever started them."""
    return len(find_processes([node_directory(directory, name) / "torrc" for name in NAMES]))


def assert_gone(directory: Path) -> None:
    """Nothing of the lab runs, or is held, or claims to run."""
    torrcs = [node_directory(directory, name) / "torrc" for name in (*NAMES, "service1")]
    wait_until(lambda: not find_processes(torrcs))
    assert not Lab(directory).status().is_up
    lock = LabDirectory(directory)
    lock.acquire()
    lock.release()


def relays(lab: Lab, *roles: Role) -> list[str]:
    return [node.fingerprint for node in lab.nodes if node.role in roles]


def build(lab: Lab, paths: Sequence[Sequence[str]]) -> list[CircuitEvent]:
    """Build circuits through the relays of these fingerprints, all at once.

    Returns: the last event of each.
    """
    last: dict[str, CircuitEvent] = {}
    arrived = threading.Event()

    def take(event: Event) -> None:
        if isinstance(event, CircuitEvent) and event.status in ("BUILT", "FAILED", "CLOSED"):
            last[event.circuit_id] = event
            arrived.set()

    with ControlClient.connect(lab.control) as control:
        control.add_listener(take)
        control.set_events(["CIRC"])
        ids = [control.extend_circuit(path=path) for path in paths]
        deadline = time.monotonic() + PATIENCE
        while not all(circuit_id in last for circuit_id in ids):
            assert arrived.wait(deadline - time.monotonic())
            arrived.clear()
        ends = [last[circuit_id] for circuit_id in ids]
        for end in ends:
            if end.status == "BUILT":
                control.close_circuit(end.circuit_id)
    return ends


@pytest.fixture(scope="module")
def kept() -> Iterator[Path]:
    """The directory of a lab that was up once: its keys and its consensus."""
    with tempfile.TemporaryDirectory(prefix="clew") as directory:
        path = Path(directory) / "lab"
        with Lab(path):
            pass
        yield path


@pytest.fixture
def directory(kept: Path) -> Iterator[Path]:
    """A copy of it, on its ports."""
    with tempfile.TemporaryDirectory(prefix="clew") as parent:
        path = Path(parent) / "lab"
        # Control sockets are not copied: an ended tor leaves one behind.
        shutil.copytree(kept, path, ignore=shutil.ignore_patterns("control"))
        yield path
        assert tors(path) == 0


def start_holder(directory: Path, *, ready: bool) -> subprocess.Popen[str]:
    """A Python process that has a lab: up, or with tors that run but have not been connected to yet."""
    script = (
        "import sys, time\n"
        "from clew.tor.lab import Lab\n"
        "lab = Lab(sys.argv[1])\n"
        "lab.up(lambda progress: print(progress.what, flush=True))\n"
        "time.sleep(600)\n"
    )
    holder = subprocess.Popen(
        [sys.executable, "-c", script, str(directory)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert holder.stdout is not None
    for line in holder.stdout:
        if line.strip() == "ready" or (not ready and tors(directory)):
            return holder
    raise AssertionError(holder.communicate()[1])


def finish(holder: subprocess.Popen[str]) -> str:
    """Wait for its end; what it wrote to standard error."""
    return holder.communicate(timeout=PATIENCE)[1]


# --- a network that can be used ---------------------------------------------------------------------------------------


def test_every_relay_can_be_used_at_once(lab: Lab) -> None:
    """As soon as the lab is up, circuits of three hops through any guard, middle and exit are built, none fails."""
    paths = [
        (guard, middle, last)
        for guard in relays(lab, Role.GUARD)
        for middle in relays(lab, Role.MIDDLE, Role.AUTHORITY)
        for last in relays(lab, Role.EXIT)
    ]
    ends = build(lab, paths)
    assert [end.status for end in ends] == ["BUILT"] * len(paths)
    assert [tuple(relay.fingerprint for relay in end.path) for end in ends] == paths


def test_the_consensus_has_the_roles(lab: Lab) -> None:
    """Guards have the flag Guard and no others have it, likewise exits; tor picks evenly, but for authorities."""
    with ControlClient.connect(lab.control) as control:
        known = {relay.nickname: relay for relay in control.relays()}
    assert sorted(known) == sorted(NAMES[:-1])
    for node in lab.nodes[: len(known)]:
        relay = known[node.name]
        assert relay.fingerprint == node.fingerprint
        assert (relay.address, relay.or_port) == ("127.0.0.1", node.or_port)
        assert ("Guard" in relay.flags) == (node.role is Role.GUARD)
        assert ("Exit" in relay.flags) == (node.role is Role.EXIT)
        assert ("Authority" in relay.flags) == (node.role is Role.AUTHORITY)
        assert "Running" in relay.flags
        assert relay.bandwidth < 100 if node.role is Role.AUTHORITY else relay.bandwidth == 1000


def test_traffic_reaches_this_machine_and_no_other(lab: Lab) -> None:
    """Through SOCKS a server on 127.0.0.1 is reached, also by the name localhost; another address is not."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        for host in ("127.0.0.1", "localhost"):
            with socks(lab.socks_port, host, port) as client:
                connection, _ = server.accept()
                with connection:
                    client.sendall(b"through the lab")
                    assert connection.recv(100) == b"through the lab"
    with pytest.raises(ConnectionError, match="SOCKS"):
        socks(lab.socks_port, "192.0.2.1", 80)  # TEST-NET-1 (RFC 5737)


def socks(port: int, host: str, target: int) -> socket.socket:
    """A connection through a SOCKS proxy (RFC 1928)."""
    connection = socket.create_connection(("127.0.0.1", port), PATIENCE)
    connection.sendall(b"\5\1\0")
    assert connection.recv(2) == b"\5\0"
    connection.sendall(b"\5\1\0\3" + bytes([len(host)]) + host.encode() + target.to_bytes(2, "big"))
    reply = connection.recv(10)
    if reply[1]:
        connection.close()
        raise ConnectionError(f"SOCKS reply {reply[1]}")
    return connection


def test_everything_listens_on_loopback(lab: Lab) -> None:
    """No tor of the lab listens on an address but 127.0.0.1, or on a port that is not in its list."""
    listening = [line.split()[1] for line in Path("/proc/net/tcp").read_text().splitlines() if line.split()[3] == "0A"]
    loopback = {int(entry.partition(":")[2], 16) for entry in listening if entry.startswith("0100007F:")}
    elsewhere = {int(entry.partition(":")[2], 16) for entry in listening if not entry.startswith("0100007F:")}
    ports = {port for node in lab.nodes for port in (node.or_port, node.dir_port, node.socks_port) if port}
    assert ports <= loopback
    assert not ports & elsewhere


def test_only_the_owner_can_read_it(lab: Lab) -> None:
    """All directories have mode 0700; nobody else may read our files and keys, either."""
    for path in [lab.directory, *lab.directory.rglob("*")]:
        mode = path.lstat().st_mode
        if stat.S_ISDIR(mode):
            assert stat.S_IMODE(mode) == 0o700, path
        elif path.parent == lab.directory or path.name == "torrc":
            assert stat.S_IMODE(mode) == 0o600, path
        elif path.parent.name == "keys":
            assert not mode & 0o077, path


def test_a_node_is_stopped_and_started(lab: Lab) -> None:
    """A relay that was stopped has no process and fails circuits; started again, it is in circuits at once."""
    lab.stop_node("exit2")
    assert lab.node("exit2").pid is None
    guard, other_guard = relays(lab, Role.GUARD)
    (middle,) = relays(lab, Role.MIDDLE)
    authority = relays(lab, Role.AUTHORITY)[0]
    last = lab.node("exit2").fingerprint
    (end,) = build(lab, [(guard, middle, last)])
    assert (end.status, end.reason) == ("FAILED", "DESTROYED")
    lab.start_node("exit2")
    pid = lab.node("exit2").pid
    assert pid is not None
    # Not through the middle: for a minute it does not try again to reach what it could not reach.
    (end,) = build(lab, [(other_guard, authority, last)])
    assert end.status == "BUILT"
    lab.start_node("exit2")
    assert lab.node("exit2").pid == pid


def test_a_node_that_died_is_started_again(lab: Lab) -> None:
    """The lab notices that a tor is gone, and starts another."""
    pid = lab.node("auth3").pid
    assert pid is not None
    os.kill(pid, signal.SIGKILL)
    wait_until(lambda: lab.node("auth3").pid is None)
    lab.start_node("auth3")
    assert lab.node("auth3").pid not in (None, pid)


def test_a_node_that_is_not_there(lab: Lab) -> None:
    """The error names those that are."""
    for act in (lab.stop_node, lab.start_node, lab.node):
        with pytest.raises(LabError, match=r"no node exit9 in the lab: it has auth1, .*, client"):
            act("exit9")


def test_a_directory_has_one_lab(lab: Lab) -> None:
    """Who brings up another in the same directory is told which process has it; the first is undisturbed."""
    other = Lab(lab.directory)
    with pytest.raises(LabError, match=rf"is up already \(process {os.getpid()}\)"):
        other.up()
    other.down()
    assert lab.status().is_ready
    assert tors(lab.directory) == len(NAMES)


def test_a_forked_child_has_no_lab(lab: Lab) -> None:
    """What a child does with its copy of the lab does not touch the network."""
    child = os.fork()
    if not child:
        lab.down()
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0
    assert lab.status().is_ready
    assert tors(lab.directory) == len(NAMES)


# --- up and down ------------------------------------------------------------------------------------------------------


def test_the_second_time_is_the_same_network(directory: Path) -> None:
    """Keys, ports and consensus are kept; no vote is held. After `down` nothing is left running."""
    before = Lab(directory).status()
    assert not before.is_up
    consensus = valid_until(node_directory(directory, "auth1"))
    seen: list[LabProgress] = []
    lab = Lab(directory)
    lab.up(seen.append)
    try:
        assert [(node.name, node.fingerprint, node.or_port) for node in lab.nodes] == [
            (node.name, node.fingerprint, node.or_port) for node in before.nodes
        ]
        assert valid_until(node_directory(directory, "auth1")) == consensus
        assert tors(directory) == len(NAMES)
        assert not {"making keys", "voting on a consensus"} & {progress.what for progress in seen}
        fractions = [progress.fraction for progress in seen]
        assert fractions == sorted(fractions)
        assert (seen[-1].fraction, seen[-1].what) == (1.0, "ready")
        lab.up()  # it is up, which is all that was asked for
        assert tors(directory) == len(NAMES)
    finally:
        lab.down()
    assert_gone(directory)
    lab.down()


def test_a_consensus_that_has_ended(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It will do for the start, and a vote gives another one soon after."""
    monkeypatch.setattr(Network, "_is_live", lambda network: False)
    home = node_directory(directory, "auth1")
    consensus = valid_until(home)
    with Lab(directory) as lab:
        assert valid_until(home) == consensus
        wait_until(lambda: valid_until(home) > consensus)
        with ControlClient.connect(lab.node("auth1").control) as control:
            assert len(control.relays()) == len(NAMES) - 1


def test_a_consensus_that_is_damaged(directory: Path) -> None:
    """What looks like a kept network and is none is thrown away; a vote is held."""
    for path in (directory / "nodes").glob("*/cached-*consensus"):
        path.write_text(path.read_text()[:300])
    seen = []
    lab = Lab(directory)
    lab.up(lambda progress: seen.append(progress.what))
    try:
        assert "voting on a consensus" in seen
        (end,) = build(lab, [[relays(lab, role)[0] for role in (Role.GUARD, Role.MIDDLE, Role.EXIT)]])
        assert end.status == "BUILT"
    finally:
        lab.down()


def test_an_authority_that_was_late(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Relays publish their descriptors once, at their start: an authority that missed it gets them all the same."""
    start = Network._start
    late: list[Seat] = []

    def start_late(network: Network, seats: Sequence[Seat], *rest: Any) -> None:
        if any(seat.name == "auth3" for seat in seats) and not late:
            late.extend(seat for seat in seats if seat.name == "auth3")
            start(network, [seat for seat in seats if seat not in late], *rest)
            return
        start(network, seats, *rest)
        if "auth3" not in network.nodes:
            everybody = {*NAMES} - {"auth3", "client"}
            early = [network.nodes[seat.name] for seat in network._authorities[:2]]
            wait_until(lambda: all(uploaded_descriptors(node) >= everybody for node in early))
            start(network, late, *rest)

    monkeypatch.setattr(Network, "_start", start_late)
    (directory / "nodes" / "client" / "cached-microdesc-consensus").unlink()  # without which a vote is held
    with Lab(directory) as lab:
        assert late
        (end,) = build(lab, [[relays(lab, role)[0] for role in (Role.GUARD, Role.MIDDLE, Role.EXIT)]])
        assert end.status == "BUILT"


def test_labs_side_by_side(lab: Lab, directory: Path) -> None:
    """Two labs run at the same time; where a port is taken, the second one moves to others and holds a vote."""
    taken = Lab(directory).node("guard1").or_port
    with socket.create_server(("127.0.0.1", taken)), Lab(directory) as other:
        ports = {node.or_port for node in other.nodes}
        assert taken not in ports
        assert not ports - {0} & {node.or_port for node in lab.nodes}
        path = [relays(other, role)[0] for role in (Role.GUARD, Role.MIDDLE, Role.EXIT)]
        assert build(other, [path])[0].status == "BUILT"
        assert tors(directory) == tors(lab.directory) == len(NAMES)
    assert_gone(directory)
    assert lab.status().is_ready


def test_an_exception_ends_it(directory: Path) -> None:
    """Also one that the function raises that is told of the progress."""

    def fail(progress: LabProgress) -> None:
        if tors(directory):
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        Lab(directory).up(fail)
    assert_gone(directory)


@pytest.mark.parametrize("ready", [True, False], ids=["up", "on its way up"])
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_no_tor_outlives_its_process(directory: Path, number: signal.Signals, ready: bool) -> None:
    """Whatever ends the Python process, and whenever: its tors end. The next `up` finds nothing in its way."""
    holder = start_holder(directory, ready=ready)
    holder.send_signal(number)
    finish(holder)
    assert_gone(directory)


def test_the_next_one_ends_what_a_killed_one_left(directory: Path) -> None:
    """Tors that have not noticed yet that their owner was killed are ended by whoever comes next."""
    holder = start_holder(directory, ready=False)
    pids = {node.pid for node in Lab(directory).nodes if node.pid}
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)  # so that they notice nothing
    holder.kill()
    finish(holder)
    with Lab(directory) as lab:
        assert not pids & {node.pid for node in lab.nodes}
        assert tors(directory) == len(NAMES)
    assert_gone(directory)


def test_a_child_of_a_killed_process_does_not_keep_it(directory: Path) -> None:
    """A forked child inherits no lock and no connection that would keep the lab alive without its owner."""
    script = (
        "import os, sys, time\n"
        "from clew.tor.lab import Lab\n"
        "lab = Lab(sys.argv[1])\n"
        "lab.up()\n"
        "child = os.fork()\n"
        "if child:\n"
        "    print(child, flush=True)\n"
        "time.sleep(600)\n"
    )
    with subprocess.Popen([sys.executable, "-c", script, str(directory)], stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout is not None
        child = int(holder.stdout.readline())
        try:
            holder.kill()
            holder.wait()
            assert_gone(directory)
        finally:
            os.kill(child, signal.SIGKILL)


# --- onion services ---------------------------------------------------------------------------------------------------


def fetch(lab: Lab, service: OnionService, path: str) -> bytes:
    """What is at a path of an onion service.

    Asked for three times at the most: tor gives a connection up ("TTL expired") when no rendezvous comes about in time,
    as on a machine that is very busy, or where the only paths would have a relay follow itself.
    """
    for attempt in range(3):
        try:
            connection = socks(lab.socks_port, service.address, service.port)
            break
        except ConnectionError as error:
            if attempt == 2 or "reply 6" not in str(error):
                raise
    with connection:
        connection.sendall(f"GET {path} HTTP/1.1\r\nHost: {service.address}\r\n\r\n".encode())
        received = b""
        while data := connection.recv(65536):
            received += data
    return received.partition(b"\r\n\r\n")[2]


def test_an_onion_service(lab: Lab, web_port: int) -> None:
    """It can be connected to; its node is one of the lab's, with a control socket of its own."""
    service = lab.add_onion_service(4711, web_port)
    assert fetch(lab, service, "/hello") == b"/hello"
    assert service in lab.status().onion_services
    node = lab.node(service.name)
    assert (node.role, node.socks_port, node.or_port, node.control) == (Role.SERVICE, 0, 0, service.control)
    with ControlClient.connect(service.control) as control:
        assert control.get_conf("HiddenServicePort") == {"HiddenServicePort": (f"4711 127.0.0.1:{web_port}",)}


def test_an_onion_service_is_stopped_and_started(lab: Lab, web_port: int) -> None:
    """Stopped, it has no process; started again, it has the same address and can be reached."""
    service = lab.add_onion_service(80, web_port)
    lab.stop_node(service.name)
    assert lab.node(service.name).pid is None
    lab.start_node(service.name)
    assert lab.node(service.name).pid is not None
    assert fetch(lab, service, "/again") == b"/again"


@pytest.mark.parametrize("ports", [(0, 80), (80, 0), (65536, 80), (80, -1)])
def test_a_port_that_is_none(lab: Lab, ports: tuple[int, int]) -> None:
    """The sentence says what a port is; no node is left."""
    before = lab.nodes
    with pytest.raises(LabError, match="a port is a number from 1 to 65535"):
        lab.add_onion_service(*ports)
    assert lab.nodes == before


def test_an_onion_service_that_does_not_come(lab: Lab, web_port: int) -> None:
    """Whoever gives up waiting leaves nothing of it behind."""
    before = lab.nodes

    def give_up(progress: LabProgress) -> None:
        if "bootstrapping" in progress.what:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        lab.add_onion_service(80, web_port, give_up)
    assert lab.nodes == before
    homes = {path.name for path in (lab.directory / "nodes").iterdir()}
    assert homes == {node.name for node in before}


def test_no_onion_service_outlives_its_process(directory: Path) -> None:
    """Its tor ends with the process that added it, and the next `up` knows nothing of it."""
    script = (
        "import sys, time\n"
        "from clew.tor.lab import Lab\n"
        "lab = Lab(sys.argv[1])\n"
        "lab.up()\n"
        "lab.add_onion_service(80, 9, lambda progress: print(progress.what, flush=True))\n"
        "time.sleep(600)\n"
    )
    with subprocess.Popen([sys.executable, "-c", script, str(directory)], stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout is not None
        assert any("bootstrapping" in line for line in holder.stdout)
        assert Lab(directory).node("service1").pid is not None
        assert Lab(directory).status().onion_services == ()  # not yet
        holder.kill()
    assert_gone(directory)
    with Lab(directory) as lab:
        assert [node.name for node in lab.nodes] == NAMES
        assert not node_directory(directory, "service1").exists()


# --- what can go wrong ------------------------------------------------------------------------------------------------


def test_without_tor(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One sentence says what to type, and nothing was written."""
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(lab_programs, "_SYSTEM_PATH", "")
    with pytest.raises(TorNotFoundError, match=r"There is no tor on this machine: type 'sudo apt-get install tor'\."):
        Lab(tmp_path / "lab").up()
    assert list(tmp_path.iterdir()) == []


def test_a_torrc_that_tor_refuses(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """tor's own words are in the error."""
    make = lab_torrc.torrc

    def make_wrong(*arguments: object) -> str:
        return make(*arguments) + "NoSuchOption 1\n"  # type: ignore[arg-type]

    monkeypatch.setattr(lab_torrc, "torrc", make_wrong)
    with pytest.raises(LabError, match=r"tor refuses: .*Unknown option 'NoSuchOption'"):
        Lab(directory).up()
    assert_gone(directory)


def test_a_node_that_ends_on_the_way_up(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A fault that only shows when tor runs ends the attempt; tor's own words are in the error."""
    (node_directory(directory, "guard1") / "keys" / "secret_id_key").write_text("damaged")
    with pytest.raises(LabError, match="guard1's tor has ended"):
        Lab(directory).up()
    assert_gone(directory)


# --- the command ------------------------------------------------------------------------------------------------------


def clew(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run `clew lab`."""
    return subprocess.run([*CLEW, "lab", *arguments], capture_output=True, text=True, timeout=100, check=False)


def test_the_command_line(directory: Path, web_port: int) -> None:
    """`up` leaves a lab behind, which `status` finds and `down` ends; each may be said twice."""
    where = ("--dir", str(directory))
    assert clew("status", *where).returncode == 1
    up = clew("up", *where, "--onion-service", f"80:{web_port}")
    try:
        assert (up.returncode, "ready" in up.stderr) == (0, True), up.stderr
        assert f"clew lab down --dir {directory}" in up.stdout
        assert str(node_directory(directory, "client") / "control") in up.stdout
        assert "up already" in clew("up", *where).stdout
        status = clew("status", "--json", *where)
        assert status.returncode == 0
        told = json.loads(status.stdout)
        assert [node["name"] for node in told["nodes"]] == [*NAMES, "service1"]
        (service,) = told["onion_services"]
        assert (service["port"], service["target_port"]) == (80, web_port)
        assert f"{service['address']}:80 to 127.0.0.1:{web_port}" in clew("status", *where).stdout
        assert fetch(Lab(directory), OnionService(**service), "/hello") == b"/hello"
        assert "up already" in clew("up", *where, "--onion-service", f"80:{web_port}").stdout
        assert "without --onion-service 81:82: end it first" in clew("up", *where, "--onion-service", "81:82").stderr
        assert (told["state"], told["keeper"]) == ("up", True)
        with ControlClient.connect(told["control"]) as control:
            assert len(control.relays()) == len(NAMES) - 1
    finally:
        down = clew("down", *where)
    assert (down.returncode, down.stderr) == (0, "")
    assert_gone(directory)
    assert "was not up" in clew("down", *where).stdout


def test_a_keeper_that_is_killed(directory: Path) -> None:
    """The process that `clew lab up` left behind takes the network with it, however it ends."""
    assert clew("up", "--dir", str(directory)).returncode == 0
    owner = Lab(directory).status().owner
    assert owner is not None
    os.kill(owner.pid, signal.SIGKILL)
    assert_gone(directory)


def test_the_command_is_interrupted(directory: Path) -> None:
    """Ctrl-C while the lab comes up: exit status 130, nothing on standard error but the progress, no process left."""
    command = subprocess.Popen([*CLEW, "lab", "up", "--dir", str(directory)], stderr=subprocess.PIPE, text=True)
    wait_until(lambda: tors(directory) > 0)
    command.send_signal(signal.SIGINT)
    errors = finish(command)
    assert command.returncode == 130
    assert "Traceback" not in errors
    assert_gone(directory)


def test_foreground(directory: Path) -> None:
    """With --foreground the command itself holds the lab; `down` from elsewhere ends it, in order."""
    command = subprocess.Popen(
        [*CLEW, "lab", "up", "--foreground", "--dir", str(directory)], stdout=subprocess.PIPE, text=True
    )
    wait_until(lambda: Lab(directory).status().is_ready)
    owner = Lab(directory).status().owner
    assert owner is not None
    assert owner.pid == command.pid
    assert clew("down", "--dir", str(directory)).returncode == 0
    output, _ = command.communicate(timeout=PATIENCE)
    assert command.returncode == 0
    assert "Ctrl-C" in output
    assert_gone(directory)


def test_down_does_not_end_a_program(lab: Lab) -> None:
    """A lab that a program uses is the program's to end; the sentence names the process."""
    down = clew("down", "--dir", str(lab.directory))
    assert down.returncode == 1
    assert f"belongs to process {os.getpid()}" in down.stderr
    assert lab.status().is_ready
