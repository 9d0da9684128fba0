"""Circuit Building: real circuits in a private Tor network on this machine, or, without tor, a simulation of them."""

from __future__ import annotations

import random
import time
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from clew import FileExporter, MemoryExporter, MultiExporter, Tracer
from clew.errors import CircuitError
from clew.model import Status
from clew.tor.circuit_mapper import CircuitMapper, Claim
from clew.tor.control import ControlClient
from clew.tor.events import Relay
from clew.tor.lab import Lab
from clew.tor.manager import CircuitManager
from clew.tor.privacy import Privacy, PrivacyFilter
from clew.tor.simulation import RESOURCE, simulate_circuit

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from clew import Span
    from clew.demo.stage import Stage
    from clew.model import Attributes
    from clew.tor.circuit_mapper import Outcome
    from clew.tor.consensus import RelayStatus
    from clew.tor.lab import LabProgress

__all__ = ["run"]

_SIMULATION = "THIS IS A SIMULATION: no tor took part in it, the relays do not exist and the times are made up."
_CIRCUIT_SECONDS = 30.0


def run(stage: Stage) -> None:
    if stage.simulated:
        _simulate(stage)
    else:
        _build(stage)


# --- with tor ---------------------------------------------------------------------------------------------------------


def _build(stage: Stage) -> None:
    stage.say("A private Tor network on 127.0.0.1: three authorities, five relays and a client, all of them real tor.")
    lab = Lab(stage.directory / "lab")
    begin = time.monotonic()
    try:
        with _progress(stage) as report:
            lab.up(report)
        up_seconds = time.monotonic() - begin
        with ControlClient.connect(lab.control) as control:
            relays = control.relays()
            stage.say(f"Up in {up_seconds:.1f} s: tor {control.tor_version}, {len(relays)} relays in the consensus.")
            stage.say("")
            privacy = PrivacyFilter(Privacy.LAB)
            with _recording(stage, privacy.resource()) as (tracer, path, records):
                with CircuitManager(control, tracer, privacy=privacy) as manager:
                    _build_one(stage, tracer, manager, relays)
                    _show_newest(stage, tracer, records)
                    _fail_one(stage, tracer, manager, relays, lab)
                    _show_newest(stage, tracer, records)
                tracer.flush(5)
            _conclude(stage, path, len(relays))
    finally:
        lab.down()


def _build_one(stage: Stage, tracer: Tracer, manager: CircuitManager, relays: list[RelayStatus]) -> None:
    """A circuit through relays that we choose from the consensus."""
    with tracer.start_span("build-circuit"):
        path = _choose_path(tracer, relays)
        circuit = manager.create_circuit(path, timeout=_CIRCUIT_SECONDS, span_name="extend-circuit")
    stage.say(f"tor built circuit {circuit.id}, hop by hop: {_names(path)}.")
    stage.say("")
    manager.close_circuit(circuit)


def _fail_one(stage: Stage, tracer: Tracer, manager: CircuitManager, relays: list[RelayStatus], lab: Lab) -> None:
    """A circuit to an exit that is down, which the consensus does not know yet."""
    down = next(relay for relay in relays if "Exit" in relay.flags)
    lab.stop_node(down.nickname)
    stage.say(f"Now relay {down.nickname} is switched off. The consensus still has it, so it can be chosen:")
    with suppress(CircuitError), tracer.start_span("build-circuit"):
        path = _choose_path(tracer, relays, exit_relay=down)
        try:
            manager.create_circuit(path, timeout=_CIRCUIT_SECONDS, span_name="extend-circuit")
        except CircuitError as error:
            stage.say(f"{_names(path)}: {error}.")
            stage.say("")
            raise


# What a position in a circuit needs, and what is too precious for it (path-spec 2.2).
_POSITIONS: tuple[tuple[str, frozenset[str], frozenset[str]], ...] = (
    ("guard", frozenset({"Guard"}), frozenset({"Exit"})),
    ("middle", frozenset(), frozenset({"Guard", "Exit"})),
    ("exit", frozenset({"Exit"}), frozenset()),
)


def _choose_path(
    tracer: Tracer, relays: list[RelayStatus], *, exit_relay: RelayStatus | None = None
) -> list[RelayStatus]:
    """A guard, a middle and an exit, by chance in proportion to their bandwidth; a span for each choice."""
    path: list[RelayStatus] = []
    for role, needed, avoided in _POSITIONS:
        with tracer.start_span(f"select-{role}") as span:
            usable = [
                relay
                for relay in relays
                if needed <= relay.flags and "Authority" not in relay.flags and relay not in (*path, exit_relay)
            ]
            if role == "exit" and exit_relay is not None:
                usable = [exit_relay]
            fitting = [relay for relay in usable if not avoided & relay.flags] or usable
            (relay,) = random.choices(fitting, [max(relay.bandwidth, 1) for relay in fitting])  # noqa: S311 - a demo
            path.append(relay)
            span.set_attributes(
                {
                    "tor.relay.nickname": relay.nickname,
                    "tor.relay.fingerprint": relay.fingerprint,
                    "tor.hop.role": role,
                    "demo.candidates": len(fitting),
                }
            )
    return path


def _names(path: list[RelayStatus]) -> str:
    return " → ".join(relay.nickname for relay in path)


@contextmanager
def _progress(stage: Stage) -> Iterator[Callable[[LabProgress], None]]:
    """A bar over the bootstrap on a terminal, a line now and then elsewhere."""
    console = stage.progress_console
    if not console.is_terminal:
        said = ""

        def tell(progress: LabProgress) -> None:
            nonlocal said
            if progress.what != said:
                said = progress.what
                console.print(f"{progress.seconds:5.1f} s  {progress.what}")

        yield tell
        return
    bar = Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.percentage:>3.0f} %"),
        TimeElapsedColumn(),
        console=console,
        transient=True,
    )
    with bar:
        task = bar.add_task("", total=1.0)
        yield lambda progress: bar.update(task, completed=progress.fraction, description=progress.what)


# --- without tor ------------------------------------------------------------------------------------------------------


def _simulate(stage: Stage) -> None:
    """The same spans by the same state machine, from events that are made up."""
    stage.say(_SIMULATION)
    stage.say("")
    path = tuple(
        Relay(f"{number:040X}", nickname) for number, nickname in enumerate(("Dionysus", "Minotaur", "Ariadne"), 1)
    )
    with _recording(stage, RESOURCE) as (tracer, file, records):
        for fail_at in (None, 3):
            mapper = CircuitMapper(tracer, Privacy.LAB)
            with tracer.start_span("build-circuit") as root:
                for relay, (role, _, _) in zip(path, _POSITIONS, strict=True):
                    with tracer.start_span(f"select-{role}") as span:
                        span.set_attribute("tor.relay.nickname", relay.nickname)
                with tracer.start_span("extend-circuit") as span:
                    _simulate_circuit(mapper, span, path, fail_at)
                if fail_at:
                    root.set_status(Status.ERROR, "a circuit that was not built (simulated)")
            stage.say("A circuit that fails:" if fail_at else "A circuit that is built:")
            stage.say("")
            _show_newest(stage, tracer, records)
            stage.say(_SIMULATION)
            stage.say("")
        tracer.flush(5)
    stage.facts([("file", file), ("it says", "clew.simulated = true")])
    stage.say(_SIMULATION)


def _simulate_circuit(mapper: CircuitMapper, span: Span, path: tuple[Relay, ...], fail_at: int | None) -> None:
    delays_ns = [random.randint(20, 120) * 1_000_000 for _ in path]  # noqa: S311 - a simulation
    events = simulate_circuit(path, delays_ns, fail_at, circuit_id=str(fail_at or 1))
    mapper.claim(mapper.expect(None), str(fail_at or 1), Claim(span, _ignore, path))
    for event in events:
        time.sleep(max(event.time_ns - time.time_ns(), 0) / 1e9)
        mapper.handle(event)
    if fail_at:
        span.set_attribute("error.type", "destroyed")
        span.set_status(Status.ERROR, f"hop {fail_at} failed (simulated)")


def _ignore(_: Outcome) -> None:
    """How it ends was decided before it began."""


# --- both -------------------------------------------------------------------------------------------------------------


@contextmanager
def _recording(stage: Stage, resource: Attributes) -> Iterator[tuple[Tracer, Path, MemoryExporter]]:
    """A tracer that writes to the demo's file of circuits, and keeps what it wrote to be shown."""
    path = stage.directory / "circuits.jsonl"
    path.unlink(missing_ok=True)
    records = MemoryExporter()
    with Tracer("tor-client", exporter=MultiExporter(FileExporter(path), records), resource=resource) as tracer:
        yield tracer, path, records


def _show_newest(stage: Stage, tracer: Tracer, records: MemoryExporter) -> None:
    """Draw the trace of the newest build-circuit."""
    tracer.flush(5)
    root = [record for record in records.records if record.name == "build-circuit"][-1]
    stage.traces([record for record in records.records if record.trace_id == root.trace_id])


def _conclude(stage: Stage, path: Path, relays: int) -> None:
    stage.facts(
        [
            ("file", path),
            ("size", f"{path.stat().st_size:,} bytes"),
            ("privacy", f"level 3 (lab): relays are named, because all {relays} of them are on this machine"),
        ]
    )
    stage.view(str(path), "--name", "build-circuit")
