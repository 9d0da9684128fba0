"""A private Tor network on loopback: real tor processes, real consensus, no traffic that leaves the machine.

    with Lab() as lab:
        client = ControlClient.connect(lab.control)

How it gets ready so soon. Authorities vote at the clock's multiples of the voting interval, which is 5 minutes here.
The lab does not wait for such a moment, it makes one: as soon as all authorities have the descriptors of all relays, it
moves their votes (`TestingV3AuthVotingStartOffset`) so that they begin within the next second; votes and signatures then
take 2 s each, the least that tor accepts. Relays that asked too early would try again only after a while: they are told
to reload. The client starts when every relay can serve it. Keys and the last consensus are kept: tor takes a consensus
for 24 hours after its end as "reasonably live", so that the next start needs no vote.
"""

from __future__ import annotations

import os
import shutil
import time
import weakref
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Self

from clew.errors import LabError
from clew.tor import lab_config as config
from clew.tor.consensus import parse_router_statuses
from clew.tor.lab_config import Layout, Role, Seat
from clew.tor.lab_directory import LabDirectory, RunRecord
from clew.tor.lab_process import Node, ProcessMark, end_all, end_processes
from clew.tor.lab_programs import Programs

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from types import TracebackType

__all__ = ["Lab", "LabNode", "LabProgress", "LabStatus"]

# Far more than a busy machine needs; then something is wrong, and the error says what was waited for.
_READY_SECONDS = 180.0
_POLL_SECONDS = 0.05
# A vote that did not give a complete consensus by then is held again.
_VOTE_GRACE_SECONDS = 4.0
# What has not got its documents by then is told to ask again.
_RELOAD_SECONDS = 3.0
# Authorities' certificates live for 12 months; all keys are made anew before that.
_KEYS_SECONDS = 300 * 86_400
# tor uses a consensus until 24 hours after its end (REASONABLY_LIVE_TIME); the rest is for the lab that starts with it.
_CONSENSUS_SECONDS = 12 * 3600


@dataclass(frozen=True, slots=True)
class LabProgress:
    """How far a lab is on its way up.

    Args:
        fraction: 0 to 1.
        what: what is happening, in a few words.
        seconds: since it began.
    """

    fraction: float
    what: str
    seconds: float


@dataclass(frozen=True, slots=True)
class LabNode:
    """A node of a lab.

    Args:
        name: nickname ("guard1").
        role: what it does.
        fingerprint: 40 upper-case hex digits; empty for the client.
        pid: of its tor; None while it does not run.
        or_port: TCP port of 127.0.0.1 for other relays; 0 for the client.
        dir_port: TCP port of 127.0.0.1 for the directory; 0 but for authorities.
        socks_port: TCP port of 127.0.0.1 for SOCKS; 0 but for the client.
        control: path of its control socket.
    """

    name: str
    role: Role
    fingerprint: str
    pid: int | None
    or_port: int
    dir_port: int
    socks_port: int
    control: str


@dataclass(frozen=True, slots=True)
class LabStatus:
    """A lab, seen from any process.

    Args:
        directory: where it is.
        is_up: whether some process holds it.
        is_ready: whether the network can be used.
        owner_pid: the process that holds it.
        is_background: whether that is the one that `clew lab up` left behind.
        since: wall-clock seconds at which it began to come up; None if nobody holds it.
        nodes: all nodes, once they have keys.
    """

    directory: Path
    is_up: bool
    is_ready: bool
    owner_pid: int | None
    is_background: bool
    since: float | None
    nodes: tuple[LabNode, ...]


class Lab:
    """A private Tor network: authorities, relays and a client.

    Args:
        directory: where keys, logs and sockets are; by default `$XDG_STATE_HOME/clew/lab`.
        authorities: how many, 1 to 9.
        relays: how many guards, middles and exits together, 3 to 100; of 5, two are guards and two are exits.
        is_background: what `clew lab down` goes by: whether it may end this process.

    Raises:
        LabError: a number is out of its range, or the directory's path is too long for a socket.

    Thread: one at a time. The network ends with the process that brought it up, however that ends.
    """

    def __init__(
        self,
        directory: str | os.PathLike[str] | None = None,
        *,
        authorities: int = 3,
        relays: int = 5,
        is_background: bool = False,
    ) -> None:
        path = config.default_directory() if directory is None else Path(directory)
        self._directory = LabDirectory(path.expanduser().absolute())
        self._plan = config.plan(authorities, relays)
        self._is_background = is_background
        self._since = 0.0
        self._layout = Layout(self._plan)
        self._programs: Programs | None = None
        self._nodes: dict[str, Node] = {}
        for seat in self._plan:
            config.control_socket(self.directory, seat.name)
        _labs.add(self)

    @property
    def directory(self) -> Path:
        """Where everything of it is."""
        return self._directory.path

    @property
    def control(self) -> str:
        """The client's control socket, for `ControlClient.connect`."""
        return str(config.control_socket(self.directory, "client"))

    @property
    def socks_port(self) -> int:
        """The client's SOCKS port on 127.0.0.1.

        Raises: LabError: the lab is not up.
        """
        return self.node("client").socks_port

    @property
    def nodes(self) -> tuple[LabNode, ...]:
        """All nodes; none before the lab was first up."""
        return self.status().nodes

    def node(self, name: str) -> LabNode:
        """The node of that name.

        Raises: LabError: there is none.
        """
        for node in self.nodes:
            if node.name == name:
                return node
        raise LabError(f"there is no node {name} in the lab in {self.directory}: " + self._names())

    def status(self) -> LabStatus:
        """What is known of the lab, whoever holds it."""
        record = self._directory.read_run()
        if record is not None and not record.owner.is_alive:
            record = None
        layout = self._directory.read_layout()
        running = record.nodes if record else {}
        return LabStatus(
            directory=self.directory,
            is_up=record is not None,
            is_ready=record is not None and record.is_ready,
            owner_pid=record.owner.pid if record else None,
            is_background=record is not None and record.is_background,
            since=record.since if record else None,
            nodes=tuple(self._describe(seat, running.get(seat.name)) for seat in (layout.seats if layout else ())),
        )

    def _describe(self, seat: Seat, mark: ProcessMark | None) -> LabNode:
        return LabNode(
            name=seat.name,
            role=seat.role,
            fingerprint=seat.fingerprint,
            pid=mark.pid if mark is not None and mark.is_alive else None,
            or_port=seat.or_port,
            dir_port=seat.dir_port,
            socks_port=seat.socks_port,
            control=str(config.control_socket(self.directory, seat.name)),
        )

    # --- up and down --------------------------------------------------------------------------------------------------

    def __enter__(self) -> Self:
        self.up()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.down()

    def up(self, progress: Callable[[LabProgress], None] | None = None) -> None:
        """Bring the network up. When this returns, a circuit through any three relays can be built at once.

        Args:
            progress: called now and then, on this thread; what it raises ends the attempt.

        Raises:
            TorNotFoundError: tor is not installed.
            LabError: the lab is up already in another process, or tor refused something, or it took too long.

        Thread: blocks for some seconds. Whatever it raises, KeyboardInterrupt included, nothing is left running.
        """
        if self._nodes:
            return
        report = _Reporter(progress)
        programs = self._programs = Programs.find(self.directory)
        self._directory.acquire()
        try:
            self._end_leftovers()
            self._since = time.time()
            self._note()
            self._prepare(programs, report)
            if not (self._is_warm() and self._start_warm(report)):
                self._start_cold(report)
            self._start_client(report)
            self._layout = replace(self._layout, is_settled=True)
            self._directory.write_layout(self._layout)
            if not self._is_live():
                self._call_vote()  # the next consensus comes in 5 s; until then the last one is good
            self._note(is_ready=True)
            report(1.0, "ready")
        except BaseException:
            self.down()
            raise

    def down(self) -> None:
        """End the network. Does nothing if it is not up in this object.

        Thread: blocks until every tor has ended, at the most for some seconds.
        """
        if not self._directory.is_acquired:
            return
        try:
            end_all(list(self._nodes.values()))
            self._directory.clear_run()
        finally:
            self._nodes.clear()
            self._directory.release()

    def stop_node(self, name: str) -> None:
        """End one node's tor, as if its machine had been switched off in order.

        It stays in the consensus: whoever builds a circuit through it learns the hard way.

        Raises: LabError: there is no such node, or the lab is not up in this object.
        """
        self._check_up(name)
        node = self._nodes.pop(name, None)
        if node is not None:
            end_all([node])
            self._note(is_ready=True)

    def start_node(self, name: str) -> None:
        """Start a node that was stopped, and wait until it can be used.

        Other relays that failed to reach it do not try again for 60 s (tor's OR_CONNECT_FAILURE_LIFETIME); circuits
        through them to this node fail at once until then.

        Raises: LabError: there is no such node, or the lab is not up in this object, or tor does not come up.
        """
        self._check_up(name)
        node = self._nodes.get(name)
        if node is not None and node.is_running:
            return
        seat = self._seat(name)
        report = _Reporter(None)
        try:
            if seat.role is Role.CLIENT:
                self._start_client(report)
            else:
                self._start([seat])
                self._wait("connecting", report, 0, 0, self._connect)
                self._wait_served([seat], report)
        finally:
            self._note(is_ready=True)

    # --- the steps of the way up --------------------------------------------------------------------------------------

    def _end_leftovers(self) -> None:
        """An owner that was killed took its tors with it, but they may need a moment, or have lost sight of it."""
        record = self._directory.read_run()
        if record is not None:
            end_processes(list(record.nodes.values()))

    def _prepare(self, programs: Programs, report: _Reporter) -> None:
        """Have keys, ports that are free, and torrcs that tor accepts."""
        kept = self._directory.read_layout()
        if kept is not None and kept.names == Layout(self._plan).names and time.time() - kept.made_at < _KEYS_SECONDS:
            self._layout = kept
            if not config.ports_are_free(kept.seats):
                self._layout = replace(kept, seats=config.with_ports(kept.seats), is_settled=False)
        else:
            report(0.01, "making keys")
            self._directory.clear_nodes()
            for seat in self._plan:
                config.node_directory(self.directory, seat.name).mkdir(mode=0o700)
            self._directory.write(config.empty_file(self.directory), "")
            self._layout = programs.make_keys(Layout(config.with_ports(self._plan), made_at=int(time.time())))
        self._directory.write_layout(self._layout)
        self._directory.write(config.bandwidth_file(self.directory), config.bandwidths(self._layout, time.time()))
        report(0.2, "checking the configuration")
        self._write_torrcs(self._layout.seats)
        programs.verify(self._layout.seats)

    def _write_torrcs(self, seats: Iterable[Seat]) -> None:
        for seat in seats:
            path = config.node_directory(self.directory, seat.name) / "torrc"
            self._directory.write(path, config.torrc(self._layout, seat, self.directory))

    def _is_warm(self) -> bool:
        """True if every node kept a consensus of this very network that tor will take."""
        oldest = time.time() - _CONSENSUS_SECONDS
        return self._layout.is_settled and all(
            config.valid_until(config.node_directory(self.directory, seat.name)) > oldest for seat in self._layout.seats
        )

    def _start_warm(self, report: _Reporter) -> bool:
        """Start the relays with what they kept. False if that is not the whole network after all; none runs then."""
        self._start_relays(report)
        if self._has_consensus(self._layout.of_role(Role.AUTHORITY)):
            self._wait_served(self._relays(), report)
            return True
        end_all(list(self._nodes.values()))
        self._nodes.clear()
        return False

    def _start_cold(self, report: _Reporter) -> None:
        """Start the relays with nothing but their keys, and hold a vote."""
        for seat in self._layout.seats:
            _clear_caches(config.node_directory(self.directory, seat.name))
        self._start_relays(report)
        authorities = self._layout.of_role(Role.AUTHORITY)
        self._wait("publishing descriptors", report, 0.35, 0.4, lambda: self._share(authorities, self._has_descriptors))
        deadline = 0.0

        def vote() -> float:
            nonlocal deadline
            share = self._share(authorities, lambda seat: self._has_consensus([seat]))
            if share < 1 and time.time() > deadline:
                deadline = self._call_vote() + _VOTE_GRACE_SECONDS
            return share

        self._wait("voting on a consensus", report, 0.4, 0.75, vote, expected=6.0)
        self._wait_served(self._relays(), report)

    def _start_relays(self, report: _Reporter) -> None:
        self._start(self._relays())
        self._wait("starting authorities and relays", report, 0.25, 0.35, self._connect)

    def _start_client(self, report: _Reporter) -> None:
        client = self._seat("client")
        self._start([client])
        self._wait("starting the client", report, 0.85, 0.87, self._connect)
        self._wait("bootstrapping the client", report, 0.87, 1.0, self._again(self._bootstrap, [client]))

    def _start(self, seats: Iterable[Seat]) -> None:
        programs = self._programs
        assert programs is not None
        for seat in seats:
            home = config.node_directory(self.directory, seat.name)
            self._nodes[seat.name] = Node(seat.name, home, config.control_socket(self.directory, seat.name), programs)
        self._note()

    def _connect(self) -> float:
        return sum(node.try_connect() for node in self._nodes.values()) / len(self._nodes)

    def _wait_served(self, seats: tuple[Seat, ...] | list[Seat], report: _Reporter) -> None:
        """Wait until these relays can tell a client about all relays."""

        def served() -> float:
            return self._share(seats, lambda seat: self._has_consensus([seat]) and self._has_microdescriptors(seat))

        self._wait("spreading the consensus", report, 0.75, 0.85, self._again(served, seats))

    def _again(self, ready: Callable[[], float], seats: Iterable[Seat]) -> Callable[[], float]:
        """The same question; while the answer is no, these nodes are told now and then to retry their downloads."""
        retry_at = 0.0

        def ask() -> float:
            nonlocal retry_at
            share = ready()
            if share < 1 and time.monotonic() > retry_at:
                retry_at = time.monotonic() + _RELOAD_SECONDS
                for seat in seats:
                    self._nodes[seat.name].reload()
            return share

        return ask

    def _call_vote(self) -> float:
        """Have the authorities vote within the next second.

        Returns: wall-clock seconds at which the consensus is published.
        """
        valid_after = int(time.time()) + 1 + config.VOTE_DELAY_SECONDS + config.DIST_DELAY_SECONDS
        self._layout = replace(self._layout, voting_offset=valid_after % config.VOTING_INTERVAL_SECONDS)
        self._directory.write_layout(self._layout)
        authorities = self._layout.of_role(Role.AUTHORITY)
        self._write_torrcs(authorities)
        for seat in authorities:
            self._nodes[seat.name].reload()
        return valid_after

    # --- what nodes know ----------------------------------------------------------------------------------------------

    def _has_descriptors(self, seat: Seat) -> bool:
        """True if an authority has the descriptors of all relays."""
        answer = self._nodes[seat.name].ask("desc/all-recent") or {}
        lines = answer.get("desc/all-recent", "").split("\n")
        return {line.split(" ")[1] for line in lines if line.startswith("router ")} >= {
            each.name for each in self._relays()
        }

    def _has_consensus(self, seats: Iterable[Seat]) -> bool:
        """True if these nodes have a consensus in which all relays run, with the flags of their roles."""
        return all(
            config.is_complete(
                self._layout, parse_router_statuses((self._nodes[seat.name].ask("ns/all") or {})["ns/all"])
            )
            for seat in seats
        )

    def _has_microdescriptors(self, seat: Seat) -> bool:
        """True if a node knows all relays well enough to build a circuit through them."""
        return self._nodes[seat.name].ask(*(f"md/id/{relay.fingerprint}" for relay in self._relays())) is not None

    def _bootstrap(self) -> float:
        client = self._seat("client")
        answer = self._nodes["client"].ask("status/bootstrap-phase") or {}
        words = answer.get("status/bootstrap-phase", "").split(" ")
        done = next((int(word[9:]) for word in words if word.startswith("PROGRESS=")), 0) / 100
        if done < 1 or (self._has_consensus([client]) and self._has_microdescriptors(client)):
            return done
        return 0.99

    def _is_live(self) -> bool:
        return all(
            config.valid_until(config.node_directory(self.directory, seat.name)) > time.time()
            for seat in self._layout.of_role(Role.AUTHORITY)
        )

    # --- small things -------------------------------------------------------------------------------------------------

    def _wait(
        self,
        what: str,
        report: _Reporter,
        begin: float,
        end: float,
        ready: Callable[[], float],
        *,
        expected: float | None = None,
    ) -> None:
        """Ask until the answer is 1.

        Args:
            begin, end: the part of the whole way, for the progress.
            ready: how much is done, 0 to 1.
            expected: seconds that it takes, where nothing can be seen before the end.
        """
        started = time.monotonic()
        while (share := ready()) < 1:
            for node in self._nodes.values():
                node.check()
            passed = time.monotonic() - started
            if passed > _READY_SECONDS:
                raise LabError(
                    f"the lab does not come up: {what} took more than {_READY_SECONDS:g} s; see {self.directory}/nodes"
                )
            if expected is not None:
                share = max(share, min(0.95, passed / expected))
            report(begin + (end - begin) * share, what)
            time.sleep(_POLL_SECONDS)
        report(end, what)

    def _share(self, seats: tuple[Seat, ...] | list[Seat], is_done: Callable[[Seat], bool]) -> float:
        return sum(is_done(seat) for seat in seats) / len(seats)

    def _relays(self) -> tuple[Seat, ...]:
        return tuple(seat for seat in self._layout.seats if seat.is_relay)

    def _seat(self, name: str) -> Seat:
        return next(seat for seat in self._layout.seats if seat.name == name)

    def _names(self) -> str:
        return "it has " + ", ".join(seat.name for seat in self._plan)

    def _note(self, *, is_ready: bool = False) -> None:
        """Keep on disk who runs."""
        mine = ProcessMark.of(os.getpid())
        assert mine is not None
        nodes = {name: node.mark for name, node in self._nodes.items() if node.mark is not None}
        self._directory.write_run(RunRecord(mine, self._is_background, self._since, is_ready, nodes))

    def _check_up(self, name: str) -> None:
        if not self._directory.is_acquired:
            raise LabError("the lab is not up in this program: bring it up first")
        if all(seat.name != name for seat in self._plan):
            raise LabError(f"there is no node {name} in the lab: {self._names()}")

    def _forget(self) -> None:
        """In a forked child: the network is the parent's."""
        for node in self._nodes.values():
            node.forget()
        self._nodes = {}
        self._directory.release()


class _Reporter:
    """Calls the user's function, unless nothing has changed."""

    def __init__(self, progress: Callable[[LabProgress], None] | None) -> None:
        self._progress = progress
        self._started = time.monotonic()
        self._last = (-1.0, "")

    def __call__(self, fraction: float, what: str) -> None:
        if self._progress is None or (round(fraction, 2), what) == self._last:
            return
        self._last = (round(fraction, 2), what)
        self._progress(LabProgress(fraction, what, time.monotonic() - self._started))


def _clear_caches(home: Path) -> None:
    """Remove what a node knows of the network, but not its keys and its torrc."""
    for path in home.iterdir():
        if path.name == "keys":
            continue
        if path.is_dir():
            shutil.rmtree(path)
        elif path.name != "torrc":
            path.unlink()


# Every lab of this process, for a forked child: it inherits sockets and the lock, which would outlive the parent in it.
_labs: weakref.WeakSet[Lab] = weakref.WeakSet()


def _forget_all() -> None:
    for lab in list(_labs):
        lab._forget()  # noqa: SLF001 (the same module)


os.register_at_fork(after_in_child=_forget_all)
