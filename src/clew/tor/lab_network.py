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
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from clew.errors import LabError
from clew.tor import lab_config as config
from clew.tor.consensus import parse_router_statuses
from clew.tor.lab_config import Layout, Role, Seat
from clew.tor.lab_process import Node, PortTakenError, end_all, end_processes, find_processes, uninterrupted

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence
    from pathlib import Path

    from clew.tor.lab_directory import LabDirectory
    from clew.tor.lab_programs import Programs

__all__ = ["LabProgress", "Network", "Reporter"]

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
# Ports are chosen at random, and a moment passes before tor listens on them.
_PORT_ATTEMPTS = 3
# Authorities' certificates live for 12 months; all keys are made anew before that.
_KEYS_SECONDS = 300 * 86_400
# tor uses a consensus until 24 hours after its end (REASONABLY_LIVE_TIME); the rest is for the lab that starts with it.
_CONSENSUS_SECONDS = 12 * 3600


@dataclass(frozen=True, slots=True)
class LabProgress:
    """How far a lab is on its way up.

    Args:
        fraction: 0 to 1; never less than before.
        what: what is happening, in a few words.
        seconds: since it began.
    """

    fraction: float
    what: str
    seconds: float


class Reporter:
    """Tells a function of the progress, unless nothing has changed.

    Args:
        progress: the function; None if nobody wants to know.
    """

    def __init__(self, progress: Callable[[LabProgress], None] | None = None) -> None:
        self._progress = progress
        self._started = time.monotonic()
        self._fraction = 0.0
        self._last = (-1.0, "")

    def __call__(self, fraction: float, what: str) -> None:
        """Report that `fraction` of the way is done and `what` is happening."""
        self._fraction = max(self._fraction, fraction)
        now = (round(self._fraction, 2), what)
        if self._progress is not None and now != self._last:
            self._last = now
            self._progress(LabProgress(self._fraction, what, time.monotonic() - self._started))


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

    @property
    def nodes(self) -> Mapping[str, Node]:
        """The nodes that were started and not ended, by name."""
        return self._nodes

    # --- what the lab asks for ---------------------------------------------------------------------------------------

    def start(self, report: Reporter) -> None:
        """Start all nodes and see that they agree.

        Raises: LabError: tor refuses something, or a node ended, or it took too long. Nodes may then be running.
        """
        # An owner that was killed took its tors with it, but they may need a moment, or have lost sight of it.
        end_processes(find_processes([self._home(seat) / "torrc" for seat in self._layout.seats]))
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
        seat = next(seat for seat in self._layout.seats if seat.name == name)
        if seat.is_relay:
            self._start([seat], Reporter(), 0, 0)
            self._wait_served([seat], Reporter())
        else:
            self._start_client(Reporter())

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
        bandwidths = config.bandwidths(self._layout, time.time())
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

    def _write_torrcs(self, seats: Iterable[Seat]) -> None:
        for seat in seats:
            text = config.torrc(self._layout, seat, self._directory.path)
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
        if all(self._has_consensus(seat) for seat in self._authorities):
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
        has_consensus = self._share(self._has_consensus)
        deadline = 0.0

        def vote(seats: Sequence[Seat]) -> float:
            nonlocal deadline
            share = has_consensus(seats)
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
            known = set.intersection(*(self._descriptors(seat) for seat in seats))
            missing = [relay for relay in self._relays if relay.name not in known]
            if missing and time.monotonic() > due:
                self._start(missing, Reporter(), 0, 0)
                due = time.monotonic() + _PUBLISH_SECONDS
            return 1 - len(missing) / len(self._relays)

        return ask

    def _start_client(self, report: Reporter) -> None:
        clients = self._layout.of_role(Role.CLIENT)
        self._start(clients, report, 0.85, 0.87)
        bootstrapped = self._retried(self._share(self._bootstrap), _RELOAD_SECONDS)
        self._wait("bootstrapping the client", clients, report, 0.87, 1.0, bootstrapped)

    def _start(self, seats: Sequence[Seat], report: Reporter, begin: float, end: float) -> None:
        self._end([seat.name for seat in seats if seat.name in self._nodes])  # those that ended by themselves
        for seat in seats:
            with uninterrupted():
                control = config.control_socket(self._directory.path, seat.name)
                self._nodes[seat.name] = Node(seat.name, self._home(seat), control, self._programs)
        self._on_change()
        what = "starting the relays" if len(seats) > 1 else f"starting {seats[0].name}"
        connected = self._share(lambda seat: self._nodes[seat.name].try_connect())
        self._wait(what, seats, report, begin, end, connected)

    def _wait_served(self, seats: Sequence[Seat], report: Reporter) -> None:
        """Wait until these relays can tell a client of all relays."""
        served = self._retried(self._share(lambda seat: self._has_consensus(seat) and self._has_descriptions(seat)), 0)
        self._wait("spreading the consensus", seats, report, 0.75, 0.85, served)

    def _call_vote(self) -> float:
        """Have the authorities vote within the next second.

        Returns: wall-clock seconds at which the consensus will be published.
        """
        valid_after = int(time.time()) + 1 + config.VOTE_DELAY_SECONDS + config.DIST_DELAY_SECONDS
        self._keep(replace(self._layout, voting_offset=valid_after % config.VOTING_INTERVAL_SECONDS))
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

    # --- what nodes know ---------------------------------------------------------------------------------------------

    def _descriptors(self, seat: Seat) -> set[str]:
        """The names of the relays whose descriptors an authority has (dir-spec 2.1.1: "router" begins one)."""
        lines = self._nodes[seat.name].ask("desc/all-recent").get("desc/all-recent", "").split("\n")
        return {line.split(" ")[1] for line in lines if line.startswith("router ")}

    def _has_consensus(self, seat: Seat) -> bool:
        """True if a node has a consensus in which all relays run where they are, with the flags of their roles."""
        entries = self._nodes[seat.name].ask("ns/all").get("ns/all", "")
        return config.is_complete(self._layout, parse_router_statuses(entries))

    def _has_descriptions(self, seat: Seat) -> bool:
        """True if a node can build a circuit through any of the relays: it has all microdescriptors."""
        keys = [f"md/id/{relay.fingerprint}" for relay in self._relays]
        return len(self._nodes[seat.name].ask(*keys)) == len(keys)

    def _bootstrap(self, seat: Seat) -> float:
        """How much of its own bootstrap a client has done; 1 if it also knows all relays."""
        phase = self._nodes[seat.name].ask("status/bootstrap-phase").get("status/bootstrap-phase", "")
        percent = next((int(word[9:]) for word in phase.split(" ") if word.startswith("PROGRESS=")), 0)
        if percent == 100:
            return 1 if self._has_consensus(seat) and self._has_descriptions(seat) else 0.99
        return percent / 100

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

    @staticmethod
    def _share(done: Callable[[Seat], float]) -> Callable[[Sequence[Seat]], float]:
        """What is done for one, as a mean over several."""
        return lambda seats: sum(done(seat) for seat in seats) / len(seats)


def _clear_caches(home: Path) -> None:
    """Remove what a node knows of the network, but not its keys and its torrc."""
    for path in home.iterdir():
        if path.name in ("keys", "torrc"):
            continue
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink()
