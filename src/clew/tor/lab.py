"""A private Tor network on loopback: real tor processes, real consensus, no traffic that leaves the machine.

    with Lab() as lab:
        client = ControlClient.connect(lab.control)

The network ends with the process that brought it up, however that ends: see `lab_process`. How it comes up: see
`lab_network`.
"""

from __future__ import annotations

import os
import time
import weakref
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Self

from clew.errors import LabError
from clew.tor import lab_config as config
from clew.tor.lab_config import Role, Seat
from clew.tor.lab_directory import LabDirectory, RunRecord
from clew.tor.lab_network import Network
from clew.tor.lab_process import ProcessMark
from clew.tor.lab_programs import Programs
from clew.tor.lab_progress import LabProgress, Reporter
from clew.tor.lab_service import OnionService

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType

__all__ = ["Lab", "LabNode", "LabProgress", "LabStatus", "OnionService", "Role"]


@dataclass(frozen=True, slots=True)
class LabNode:
    """A node of a lab.

    Args:
        name: nickname ("guard1").
        role: what it does.
        fingerprint: 40 upper-case hex digits; empty for those that are no relay.
        pid: of its tor; None while it does not run.
        or_port: TCP port of 127.0.0.1 for other relays; 0 for those that are no relay.
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
        owner: the process that holds it; None if it is down.
        is_ready: whether the network can be used.
        is_keeper: whether that process is there for nothing else, so that `clew lab down` may end it.
        since: wall-clock seconds at which it began to come up; None if nobody holds it.
        nodes: all nodes, once they have keys; those of onion services come last.
        onion_services: those that were added and can be reached, unless their nodes were stopped.
    """

    directory: Path
    owner: ProcessMark | None
    is_ready: bool
    is_keeper: bool
    since: float | None
    nodes: tuple[LabNode, ...]
    onion_services: tuple[OnionService, ...]

    @property
    def is_up(self) -> bool:
        """Whether some process holds it: it is up, or on its way up or down."""
        return self.owner is not None


class Lab:
    """A private Tor network: authorities, relays and a client.

    Args:
        directory: where keys, logs and sockets are; by default `$XDG_STATE_HOME/clew/lab`.
        authorities: how many, 1 to 9.
        relays: how many guards, middles and exits together, 3 to 50; of 5, two are guards and two are exits.
        is_keeper: whether this process is there for nothing else, so that `clew lab down` may end it.

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
        is_keeper: bool = False,
    ) -> None:
        path = config.default_directory() if directory is None else Path(directory)
        self._directory = LabDirectory(path.expanduser().absolute())
        self._plan = config.plan(authorities, relays)
        self._is_keeper = is_keeper
        self._since = 0.0
        self._is_ready = False
        self._network: Network | None = None
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

        Raises: LabError: the lab was never up.
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
        raise self._no_node(name)

    def status(self) -> LabStatus:
        """What is known of the lab, whoever holds it."""
        record = self._directory.read_run()
        if record is not None and not record.owner.is_alive:
            record = None
        layout = self._directory.read_layout()
        running = record.nodes if record else {}
        services = record.services if record else ()
        seats = (*(layout.seats if layout else ()), *services)
        return LabStatus(
            directory=self.directory,
            owner=record.owner if record else None,
            is_ready=record is not None and record.is_ready,
            is_keeper=record is not None and record.is_keeper,
            since=record.since if record else None,
            nodes=tuple(self._describe(seat, running.get(seat.name)) for seat in seats),
            onion_services=tuple(self._describe_service(seat) for seat in services if seat.onion_address),
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

    def _describe_service(self, seat: Seat) -> OnionService:
        control = str(config.control_socket(self.directory, seat.name))
        return OnionService(seat.name, seat.onion_address, seat.onion_port, seat.target_port, control)

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
        if self._network is not None:
            return
        report = Reporter(progress)
        programs = Programs.find(self.directory)
        try:
            self._directory.acquire()
            self._since = time.time()
            self._network = Network(self._directory, self._plan, programs, self._note)
            self._note()
            self._network.start(report)
            self._is_ready = True
            self._note()
            report(1.0, "ready")
        except BaseException:
            self.down()
            raise

    def down(self) -> None:
        """End the network. Does nothing if it is not up in this object.

        Thread: blocks until every tor has ended, at the most for some seconds.
        """
        network, self._network = self._network, None
        self._is_ready = False
        if self._directory.is_acquired:
            try:
                if network is not None:
                    network.end()
                self._directory.clear_run()
            finally:
                self._directory.release()

    def add_onion_service(
        self, port: int, target_port: int, progress: Callable[[LabProgress], None] | None = None
    ) -> OnionService:
        """Have a further tor host an onion service. When this returns, the first connection to it can be made.

        It is there until the lab goes down; its keys are made anew, so its address is another each time. Its tor is a
        node of the lab ("service1"), which can be stopped and started.

        Args:
            port: of the onion service, 1 to 65535.
            target_port: TCP port of 127.0.0.1 where the program listens that connections are handed to; it may come
                later.
            progress: called now and then, on this thread; what it raises ends the attempt.

        Raises:
            LabError: the lab is not up in this object, or a port is none, or tor refused something, or it took too
                long. Nothing is left of the service.

        Thread: blocks for some seconds; a lab that was just brought up with what it kept from another day needs a new
            consensus first, which takes some more.
        """
        network = self._running()
        for number in (port, target_port):
            if not 1 <= number <= 65535:
                raise LabError(f"a port is a number from 1 to 65535, not {number}")
        report = Reporter(progress)
        seat = network.add_service(port, target_port, report)
        report(1.0, "ready")
        return self._describe_service(seat)

    def stop_node(self, name: str) -> None:
        """End one node's tor, as if its machine had been switched off in order.

        It stays in the consensus: whoever builds a circuit through it learns the hard way.

        Raises: LabError: there is no such node, or the lab is not up in this object.
        """
        self._running_with(name).stop_node(name)

    def start_node(self, name: str) -> None:
        """Start a node that was stopped, and wait until it can be used.

        Other relays that failed to reach it do not try again for 60 s (tor's OR_CONNECT_FAILURE_LIFETIME). A relay
        opens connections of its own to the others, which serve both sides: that is waited for, a few seconds at the
        most. A client that found its guard stopped prefers the other one for some minutes.

        Raises: LabError: there is no such node, or the lab is not up in this object, or tor does not come up.
        """
        self._running_with(name).start_node(name)

    def _running(self) -> Network:
        if self._network is None:
            raise LabError("the lab is not up in this program: bring it up first")
        return self._network

    def _running_with(self, name: str) -> Network:
        network = self._running()
        if all(seat.name != name for seat in (*self._plan, *network.services)):
            raise self._no_node(name)
        return network

    def _no_node(self, name: str) -> LabError:
        services = self._network.services if self._network is not None else ()
        names = ", ".join(seat.name for seat in (*self._plan, *services))
        return LabError(f"there is no node {name} in the lab: it has {names}")

    def _note(self) -> None:
        """Keep on disk who runs."""
        owner = ProcessMark.of(os.getpid())
        assert owner is not None
        network = self._network
        running = network.nodes if network is not None else {}
        nodes = {name: node.mark for name, node in running.items() if node.mark is not None}
        services = network.services if network is not None else ()
        self._directory.write_run(RunRecord(owner, self._is_keeper, self._since, self._is_ready, nodes, services))

    def _forget(self) -> None:
        """In a forked child: the network is the parent's."""
        if self._network is not None:
            self._network.forget()
            self._network = None
        self._directory.release()


# Every lab of this process, for a forked child: it inherits sockets and the lock, which would outlive the parent in it.
_labs: weakref.WeakSet[Lab] = weakref.WeakSet()


def _forget_all() -> None:
    for lab in list(_labs):
        lab._forget()  # noqa: SLF001 (the same module)


os.register_at_fork(after_in_child=_forget_all)
