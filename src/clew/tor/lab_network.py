"""A lab's network on its way up: from a layout to running nodes that agree.

How it gets ready so soon. Authorities vote at the clock's multiples of the voting interval, 5 minutes here. The lab
does not wait for such a moment, it makes one: as soon as all authorities have the descriptors of all relays, it moves
their votes (`TestingV3AuthVotingStartOffset`) so that they begin within the next second; votes and signatures then take
2 s each, the least that tor accepts. Relays that asked for the consensus too early would ask again only after a while:
they are told to reload. The client starts when every relay can serve it: it never has to wait for its own retries.

Keys and the last consensus are kept. tor uses a consensus until 24 hours after its end ("reasonably live"), so the next
start needs no vote; if the consensus has ended, one is called when the network is up, and nobody waits for it.

Measured with tor 0.4.9.11 on two cores that other programs kept busy (load average 4 to 7), ten times each: from
nothing 12 to 25 s, median 17 (keys 2 to 10, tors that start 1 to 6, the vote 5, the rest 3); with what was kept 2 to
6 s, median 4; `down` less than 0.1 s. Three labs at a time (load average 5 to 18), 54 and 60 times: 15 to 40 s, 4 to
9 s. After some minutes the nine tors have 0.6 GB together and take 0.4 % of one core when nobody uses them.
"""

from __future__ import annotations

import shutil
import time
from dataclasses import replace
from typing import TYPE_CHECKING

from clew.errors import LabError
from clew.tor import lab_config as config
from clew.tor import lab_torrc
from clew.tor.control import ControlClient
from clew.tor.lab_config import Layout, Role, Seat
from clew.tor.lab_knowledge import (
    bootstrap_share,
    connected_relays,
    has_consensus,
    has_descriptions,
    has_live_consensus,
    uploaded_descriptors,
)
from clew.tor.lab_process import Node, PortTakenError, end_all, end_processes, find_processes, uninterrupted
from clew.tor.lab_progress import Reporter
from clew.tor.lab_service import Publication

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence
    from pathlib import Path

    from clew.tor.lab_directory import LabDirectory
    from clew.tor.lab_programs import Programs

__all__ = ["Network"]

# Far more than a busy machine needs; then something is wrong, and the error says what was waited for.
_READY_SECONDS = 90.0
_POLL_SECONDS = 0.05
# A relay publishes within the second after its start. If an authority missed that, it would wait for hours.
_PUBLISH_SECONDS = 8.0
# From the call for a vote to the consensus: for the progress.
_VOTE_SECONDS = 6.0
# A vote that has not given a complete consensus by then is held again.
_VOTE_GRACE_SECONDS = 4.0
# What has not got its documents by then is told to ask again.
_RELOAD_SECONDS = 3.0
# A relay that was started again and has no connection to some other by then does without.
_CONNECTED_SECONDS = 5.0
# Ports are chosen at random, and a moment passes before tor listens on them.
_PORT_ATTEMPTS = 3
# Authorities' certificates live for 12 months; all keys are made anew before that.
_KEYS_SECONDS = 300 * 86_400
# tor uses a consensus until 24 hours after its end (REASONABLY_LIVE_TIME); the rest is for the lab that starts with it.
_CONSENSUS_SECONDS = 12 * 3600


class Network:
    """The nodes of a lab.

    Args:
        directory: the lab's, acquired.
        plan: the nodes that there are to be.
        programs: which tor to run.
        on_change: called when a node was started or ended.

    Thread: one at a time.
    """

    def __init__(
        self, directory: LabDirectory, plan: tuple[Seat, ...], programs: Programs, on_change: Callable[[], None]
    ) -> None:
        self._directory = directory
        self._layout = Layout(plan)
        self._programs = programs
        self._on_change = on_change
        self._nodes: dict[str, Node] = {}
        self._services: dict[str, Seat] = {}

    @property
    def nodes(self) -> Mapping[str, Node]:
        """The nodes that were started and not ended, by name."""
        return self._nodes

    @property
    def services(self) -> tuple[Seat, ...]:
        """The nodes of onion services, running or stopped."""
        return tuple(self._services.values())

    # --- what the lab asks for ---------------------------------------------------------------------------------------

    def start(self, report: Reporter) -> None:
        """Start all nodes and see that they agree.

        Raises: LabError: tor refuses something, or a node ended, or it took too long. Nodes may then be running.
        """
        # An owner that was killed took its tors with it, but they may need a moment, or have lost sight of it.
        nodes = self._directory.path / "nodes"
        torrcs = {*nodes.glob("*/torrc"), *(self._home(seat) / "torrc" for seat in self._layout.seats)}
        end_processes(find_processes(sorted(torrcs)))
        # Onion services are made anew each time, with keys of their own.
        for home in nodes.glob(f"{Role.SERVICE}*"):
            shutil.rmtree(home)
        for attempt in range(1, _PORT_ATTEMPTS + 1):
            self._have_keys(report)
            try:
                if not (self._is_warm() and self._start_warm(report)):
                    self._start_cold(report)
                self._start_client(report)
            except PortTakenError:
                if attempt == _PORT_ATTEMPTS:
                    raise
                self.end()
            else:
                break
        self._keep(replace(self._layout, is_settled=True))
        if not self._is_live():
            self._call_vote()

    def start_node(self, name: str) -> None:
        """Start one node, if it does not run, and wait until it can be used.

        Raises: LabError: tor ended, or it took too long.
        """
        if name in self._nodes and self._nodes[name].is_running:
            return
        if name in self._services:
            self._start_service(self._services[name], Reporter())
            return
        seat = next(seat for seat in self._layout.seats if seat.name == name)
        if seat.is_relay:
            self._start([seat], Reporter(), 0, 0)
            self._wait_served([seat], Reporter())
            self._wait_connected(seat)
        else:
            self._start_client(Reporter())

    def add_service(self, onion_port: int, target_port: int, report: Reporter) -> Seat:
        """Start a tor with an onion service, and wait until clients can reach it.

        Raises: LabError: tor refuses it, or it took too long; nothing is left of it.
        """
        name = f"{Role.SERVICE}{len(self._services) + 1}"
        seat = Seat(name, Role.SERVICE, onion_port=onion_port, target_port=target_port)
        self._services[name] = seat
        try:
            self._home(seat).mkdir(mode=0o700)
            self._start_service(seat, report)
            hostname = config.onion_directory(self._directory.path, name) / "hostname"
            self._services[name] = replace(seat, onion_address=hostname.read_text("ascii").strip())
        except BaseException:
            self._end([name])
            del self._services[name]
            shutil.rmtree(self._home(seat), ignore_errors=True)
            raise
        finally:
            self._on_change()
        return self._services[name]

    def stop_node(self, name: str) -> None:
        """End one node, if it runs."""
        self._end([name])
        self._on_change()

    def end(self) -> None:
        """End all nodes."""
        self._end(list(self._nodes))

    def forget(self) -> None:
        """In a forked child: the nodes are the parent's."""
        for node in self._nodes.values():
            node.forget()
        self._nodes.clear()

    # --- before anything runs ----------------------------------------------------------------------------------------

    def _have_keys(self, report: Reporter) -> None:
        """Have keys, ports that are free, and torrcs that tor accepts."""
        self._directory.write(config.empty_file(self._directory.path), "")
        kept = self._directory.read_layout()
        if kept is not None and self._can_use(kept):
            self._layout = kept
        else:
            report(0.01, "making keys")
            self._directory.clear_nodes()
            for seat in self._layout.seats:
                self._home(seat).mkdir(mode=0o700)
            self._layout = self._programs.make_keys(replace(self._layout, made_at=int(time.time())))
        if not config.can_listen(self._layout.seats):
            self._layout = replace(self._layout, seats=config.with_ports(self._layout.seats), is_settled=False)
        self._keep(self._layout)
        bandwidths = lab_torrc.bandwidths(self._layout, time.time())
        self._directory.write(config.bandwidth_file(self._directory.path), bandwidths)
        report(0.2, "checking the configuration")
        self._write_torrcs(self._layout.seats)
        self._programs.verify(self._layout.seats)

    def _can_use(self, kept: Layout) -> bool:
        """True if what was kept is the network that is wanted, with all its keys, young enough."""
        return (
            kept.names == self._layout.names
            and time.time() - kept.made_at < _KEYS_SECONDS
            and all((self._home(seat) / "keys").is_dir() for seat in kept.seats if seat.is_relay)
        )

    def _write_torrcs(self, seats: Iterable[Seat], more: str = "") -> None:
        for seat in seats:
            text = lab_torrc.torrc(self._layout, seat, self._directory.path) + more
            self._directory.write(self._home(seat) / "torrc", text)

    def _is_warm(self) -> bool:
        """True if every node kept a consensus of this very network that tor will use."""
        oldest = time.time() - _CONSENSUS_SECONDS
        return self._layout.is_settled and all(
            config.valid_until(self._home(seat)) > oldest for seat in self._layout.seats
        )

    # --- the way up --------------------------------------------------------------------------------------------------

    def _start_warm(self, report: Reporter) -> bool:
        """Start the relays with what they kept. False if that is not the whole network after all; none runs then."""
        self._start(self._relays, report, 0.25, 0.75)
        if all(has_consensus(self._nodes[seat.name], self._layout) for seat in self._authorities):
            self._wait_served(self._relays, report)
            return True
        self.end()
        return False

    def _start_cold(self, report: Reporter) -> None:
        """Start the relays with nothing but their keys, and have them vote."""
        for seat in self._layout.seats:
            _clear_caches(self._home(seat))
        authorities = self._authorities
        # First, because a relay publishes its descriptor once: who does not listen yet misses it.
        self._start(authorities, report, 0.25, 0.3)
        self._start([seat for seat in self._relays if seat not in authorities], report, 0.3, 0.35)
        self._wait("publishing descriptors", authorities, report, 0.35, 0.4, self._publish())
        share_of_consensus = self._share(lambda node: has_consensus(node, self._layout))
        deadline = 0.0

        def vote(seats: Sequence[Seat]) -> float:
            nonlocal deadline
            share = share_of_consensus(seats)
            if share < 1 and time.time() > deadline:
                deadline = self._call_vote() + _VOTE_GRACE_SECONDS
            return share

        self._wait("voting on a consensus", authorities, report, 0.4, 0.75, vote, expected=_VOTE_SECONDS)
        self._wait_served(self._relays, report)

    def _publish(self) -> Callable[[Sequence[Seat]], float]:
        """Ask what share of the relays all authorities know. Relays that are not known in time are started again."""
        due = time.monotonic() + _PUBLISH_SECONDS

        def ask(seats: Sequence[Seat]) -> float:
            nonlocal due
            known = set.intersection(*(uploaded_descriptors(self._nodes[seat.name]) for seat in seats))
            missing = [relay for relay in self._relays if relay.name not in known]
            if missing and time.monotonic() > due:
                self._start(missing, Reporter(), 0, 0)
                due = time.monotonic() + _PUBLISH_SECONDS
            return 1 - len(missing) / len(self._relays)

        return ask

    def _start_client(self, report: Reporter) -> None:
        clients = self._layout.of_role(Role.CLIENT)
        self._start(clients, report, 0.85, 0.87)
        bootstrapped = self._bootstrapped()
        self._wait("bootstrapping the client", clients, report, 0.87, 1.0, bootstrapped)

    def _start_service(self, seat: Seat, report: Reporter) -> None:
        self._wait_live(report)
        # It stays off the network until somebody listens to what it tells about its descriptors.
        self._write_torrcs([seat], "DisableNetwork 1\n")
        self._programs.verify([seat])
        self._start([seat], report, 0.1, 0.2)
        published = Publication()
        with ControlClient.connect(str(config.control_socket(self._directory.path, seat.name))) as control:
            control.add_listener(published.handle)
            control.set_events(["HS_DESC"])
            self._write_torrcs([seat])
            self._nodes[seat.name].reload()
            bootstrapped = self._bootstrapped()
            self._wait(f"bootstrapping {seat.name}", [seat], report, 0.2, 0.5, bootstrapped)
            self._wait(f"publishing {seat.name}", [seat], report, 0.5, 1.0, lambda _: published.share)

    def _start(self, seats: Sequence[Seat], report: Reporter, begin: float, end: float) -> None:
        self._end([seat.name for seat in seats if seat.name in self._nodes])  # those that ended by themselves
        for seat in seats:
            with uninterrupted():
                control = config.control_socket(self._directory.path, seat.name)
                self._nodes[seat.name] = Node(seat.name, self._home(seat), control, self._programs)
        self._on_change()
        what = "starting the relays" if len(seats) > 1 else f"starting {seats[0].name}"
        connected = self._share(Node.try_connect)
        self._wait(what, seats, report, begin, end, connected)

    def _wait_served(self, seats: Sequence[Seat], report: Reporter) -> None:
        """Wait until these relays can tell a client of all relays."""

        def is_served(node: Node) -> bool:
            return has_consensus(node, self._layout) and has_descriptions(node, self._layout)

        served = self._retried(self._share(is_served), 0)
        self._wait("spreading the consensus", seats, report, 0.75, 0.85, served)

    def _wait_connected(self, seat: Seat) -> None:
        """Wait until a relay that was started again has connections with the others that run, or a moment has passed.

        Who failed to reach it does not try again for a minute, but a connection that it opens itself serves both. It
        opens them within two seconds or so, for circuits of its own; in a large lab not to all.
        """
        deadline = time.monotonic() + _CONNECTED_SECONDS
        others = {
            other.fingerprint
            for other in self._relays
            if other.name in self._nodes and other.role is not Role.AUTHORITY and other != seat
        }
        while time.monotonic() < deadline:
            if others <= connected_relays(self._nodes[seat.name]):
                return
            time.sleep(_POLL_SECONDS)

    def _wait_live(self, report: Reporter) -> None:
        """Wait until all nodes that run have a consensus that has not ended.

        An old one is good enough for circuits, but with it a client looks for descriptors of another day than a service
        publishes.
        """
        seats = [seat for seat in self._layout.seats if seat.name in self._nodes]
        live = self._retried(self._share(has_live_consensus), 0)
        self._wait("waiting for a new consensus", seats, report, 0.0, 0.1, live, expected=_VOTE_SECONDS)

    def _call_vote(self) -> float:
        """Have the authorities vote within the next second.

        Returns: wall-clock seconds at which the consensus will be published.
        """
        valid_after = int(time.time()) + 1 + lab_torrc.VOTE_DELAY_SECONDS + lab_torrc.DIST_DELAY_SECONDS
        self._keep(replace(self._layout, voting_offset=valid_after % lab_torrc.VOTING_INTERVAL_SECONDS))
        self._write_torrcs(self._authorities)
        for seat in self._authorities:
            self._nodes[seat.name].reload()
        return valid_after

    def _retried(self, done: Callable[[Sequence[Seat]], float], after: float) -> Callable[[Sequence[Seat]], float]:
        """The same question; while the answer is not 1, the nodes are told now and then to retry their downloads.

        Args:
            after: seconds until they are told for the first time.
        """
        due = time.monotonic() + after

        def ask(seats: Sequence[Seat]) -> float:
            nonlocal due
            share = done(seats)
            if share < 1 and time.monotonic() >= due:
                due = time.monotonic() + _RELOAD_SECONDS
                for seat in seats:
                    self._nodes[seat.name].reload()
            return share

        return ask

    def _wait(
        self,
        what: str,
        seats: Sequence[Seat],
        report: Reporter,
        begin: float,
        end: float,
        done: Callable[[Sequence[Seat]], float],
        *,
        expected: float | None = None,
    ) -> None:
        """Ask until the answer is 1.

        Args:
            what: is waited for.
            seats: whose nodes are waited for.
            begin, end: the part of the whole way.
            done: how much of it is done, 0 to 1.
            expected: seconds that it takes, where nothing can be seen before the end.
        """
        started = time.monotonic()
        while (share := done(seats)) < 1:
            passed = time.monotonic() - started
            for seat in seats:
                self._nodes[seat.name].check()
                if passed > _READY_SECONDS:
                    words = self._nodes[seat.name].last_words()
                    raise LabError(f"{what} took more than {_READY_SECONDS:g} s: {seat.name} said {words}")
            if expected is not None:
                share = max(share, min(0.95, passed / expected))
            report(begin + (end - begin) * share, what)
            time.sleep(_POLL_SECONDS)
        report(end, what)

    def _is_live(self) -> bool:
        return all(config.valid_until(self._home(seat)) > time.time() for seat in self._authorities)

    # --- small things ------------------------------------------------------------------------------------------------

    def _end(self, names: Sequence[str]) -> None:
        with uninterrupted():
            end_all([self._nodes.pop(name) for name in names if name in self._nodes])

    @property
    def _relays(self) -> tuple[Seat, ...]:
        return tuple(seat for seat in self._layout.seats if seat.is_relay)

    @property
    def _authorities(self) -> tuple[Seat, ...]:
        return self._layout.of_role(Role.AUTHORITY)

    def _home(self, seat: Seat) -> Path:
        return config.node_directory(self._directory.path, seat.name)

    def _keep(self, layout: Layout) -> None:
        self._layout = layout
        self._directory.write_layout(layout)

    def _share(self, done: Callable[[Node], float]) -> Callable[[Sequence[Seat]], float]:
        """What is done for one, as a mean over several."""
        return lambda seats: sum(done(self._nodes[seat.name]) for seat in seats) / len(seats)

    def _bootstrapped(self) -> Callable[[Sequence[Seat]], float]:
        return self._retried(self._share(lambda node: bootstrap_share(node, self._layout)), _RELOAD_SECONDS)


def _clear_caches(home: Path) -> None:
    """Remove what a node knows of the network, but not its keys and its torrc."""
    for path in home.iterdir():
        if path.name in ("keys", "torrc"):
            continue
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink()
