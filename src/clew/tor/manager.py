"""Creates, extends and closes circuits, each as a traced operation of the program.

An operation is a span of the caller's trace; tor's own build of exactly that circuit, hop by hop, lies under it.
"""

from __future__ import annotations

import threading
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, NamedTuple, Self, TypeAlias

from clew.errors import CircuitError, ConfigurationError, ControlReplyError, TorError
from clew.model import Status
from clew.tor.circuit_mapper import CircuitMapper, Claim, Outcome
from clew.tor.circuits import Trigger
from clew.tor.events import Relay
from clew.tor.privacy import Privacy, PrivacyFilter

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from types import TracebackType

    from clew._hot import Span, TracerCore
    from clew.tor.consensus import RelayStatus
    from clew.tor.control import ControlClient

    AnyRelay: TypeAlias = str | Relay | RelayStatus

__all__ = ["Circuit", "CircuitManager"]

# tor tells within milliseconds that a circuit which it was told to close is gone. The trace is then complete.
_CLOSE_WAIT_SECONDS = 1.0


class Circuit(NamedTuple):
    """A circuit that was built."""

    id: str  # tor's; unique within one run of it
    path: tuple[Relay, ...]  # the guard first
    purpose: str | None  # GENERAL, CONTROLLER, ...


class CircuitManager:
    """Circuits as traced operations. A context manager.

    Args:
        control: a connection to tor.
        tracer: makes the spans.
        privacy: the level of what the spans tell, or a filter that is shared with others; PSEUDONYMOUS by default.
            A mapper has its own: give one of the two.
        mapper: turns tor's events into spans. Without one, the manager makes its own, which traces the circuits of
            this manager and no others, and the connection is the manager's: it chooses what events tor sends on it.
            Whoever gives one feeds it: `control.set_events(["CIRC", "CIRC_MINOR"])`,
            `control.add_listener(mapper.handle)`.

    Raises: ConfigurationError: both a mapper and a level.
    Thread: every method may be called from any thread, but not from a listener of the control connection.
    """

    def __init__(
        self,
        control: ControlClient,
        tracer: TracerCore,
        *,
        privacy: Privacy | PrivacyFilter | None = None,
        mapper: CircuitMapper | None = None,
    ) -> None:
        if mapper is not None and privacy is not None:
            raise ConfigurationError("give the mapper its level of privacy; the manager takes it from there")
        self._control = control
        self._tracer = tracer
        self._is_mapper_ours = mapper is None
        if mapper is not None:
            self._mapper = mapper
        else:
            level = Privacy.PSEUDONYMOUS if privacy is None else privacy
            self._mapper = CircuitMapper(tracer, level, unclaimed=False)
            control.add_listener(self._mapper.handle)
            control.on_disconnect(self._lose_all)
            control.set_events(["CIRC", "CIRC_MINOR"])

    @property
    def mapper(self) -> CircuitMapper:
        """What turns tor's events into spans here."""
        return self._mapper

    def create_circuit(
        self, path: Sequence[AnyRelay] | None = None, timeout: float = 60.0, *, span_name: str = "build-circuit"
    ) -> Circuit:
        """Have tor build a circuit, and wait until it is built.

        The span is a child of the current one. It has tor's `tor.circuit.build` under it.

        Args:
            path: the relays, the first hop first, by fingerprint or nickname, or as `control.relays()` and
                `Circuit.path` have them: the span of a hop that fails then has the nickname too. None lets tor choose.
            timeout: seconds. When they are over, or on Ctrl-C, tor is told to close the circuit, and has another second
                to tell that it did.
            span_name: what the operation is called in the trace.

        Raises:
            CircuitError: tor refused (`reason` is "reply_" and tor's code), could not build it (`reason` is tor's, in
                lower case), or not in time ("timeout"). The text tells of no relay.
            ControlConnectionError: the connection to tor is gone.
            ConfigurationError: the path is none.

        Thread: any; blocks.
        """
        with self._operation(span_name) as span:
            outcome = self._run(span, "0", path, timeout)
            return Circuit(outcome.circuit_id, outcome.path, outcome.purpose)

    def extend_circuit(self, circuit: Circuit | str, path: Sequence[AnyRelay], timeout: float = 60.0) -> Circuit:
        """Make a circuit longer, and wait until that is done. The span is `extend-circuit`.

        Args:
            circuit: one that `create_circuit` returned, or tor's id of any.
            path: the further relays.
            timeout: seconds. When they are over, or on Ctrl-C, tor is told to close the whole circuit: there is no
                other way to end the attempt.

        Returns: the circuit with its whole path.
        Raises: as `create_circuit`.
        Thread: any; blocks.
        """
        circuit_id = circuit if isinstance(circuit, str) else circuit.id
        with self._operation("extend-circuit") as span:
            outcome = self._run(span, circuit_id, path, timeout)
            return Circuit(outcome.circuit_id, outcome.path, outcome.purpose)

    def close_circuit(self, circuit: Circuit | str) -> None:
        """Have tor close a circuit. The span is `close-circuit`.

        Raises:
            CircuitError: tor refused; "reply_552" if there is no such circuit any more.
            ControlConnectionError: the connection to tor is gone.

        Thread: any; blocks until tor answered.
        """
        circuit_id = circuit if isinstance(circuit, str) else circuit.id
        with self._operation("close-circuit") as span:
            if span.is_recording:
                span.set_attributes(self._mapper.privacy.attributes({"tor.circuit.id": circuit_id}))
            try:
                self._control.close_circuit(circuit_id)
            except ControlReplyError as error:
                raise _refused(error, circuit_id) from None

    def close(self) -> None:
        """Stop tracing: operations under way end with a CircuitError, circuits stay as they are at tor.

        With a mapper that was given, this does nothing: its owner closes it.
        """
        if self._is_mapper_ours:
            self._control.remove_listener(self._mapper.handle)
            self._mapper.close("DETACHED")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def _lose_all(self, _: TorError) -> None:
        self._mapper.close("CONNECTION_LOST")

    # --- operations -------------------------------------------------------------------------------------------------

    @contextmanager
    def _operation(self, name: str) -> Iterator[Span]:
        """A span of the caller's trace. Errors are told without texts and stack traces: those count as data."""
        span = self._tracer.start_span(name)
        try:
            yield span
        except CircuitError as error:
            _fail(span, error.reason or "failed", str(error))
            raise
        except Exception as error:
            _fail(span, type(error).__name__)
            raise
        except BaseException as error:
            span.set_status(Status.CANCELLED, type(error).__name__)
            raise
        finally:
            span.end()

    def _run(self, span: Span, circuit_id: str, path: Sequence[AnyRelay] | None, timeout: float) -> Outcome:
        if path is not None and (isinstance(path, str) or not path):
            raise ConfigurationError("a path is a list of relays; leave it out and tor chooses")
        relays = tuple(_parse_relay(relay) if isinstance(relay, str) else relay for relay in path or ())
        attempt = _Attempt(self._control, self._mapper, span, circuit_id, relays)
        try:
            attempt.start()
            is_done = attempt.done.wait(timeout)
        except BaseException:
            attempt.abandon()
            raise
        if not is_done:
            attempt.abandon()
        outcome = attempt.outcome
        if span.is_recording and attempt.circuit_id is not None:
            attributes = {
                "tor.circuit.id": attempt.circuit_id,
                "tor.circuit.hops": None if outcome is None else len(outcome.path),
            }
            span.set_attributes(self._mapper.privacy.attributes(attributes))
        if not is_done:
            raise _too_late(attempt, timeout)
        if isinstance(attempt.error, ControlReplyError):
            raise _refused(attempt.error, None if circuit_id == "0" else circuit_id) from None
        if attempt.error is not None:
            raise attempt.error
        assert outcome is not None
        if outcome.trigger is not Trigger.BUILT:
            raise CircuitError(
                f"the circuit was not built: {outcome.explanation}",
                circuit_id=outcome.circuit_id,
                reason=_lower(outcome.reason),
                remote_reason=_lower(outcome.remote_reason),
            )
        return outcome


class _Attempt:
    """One EXTENDCIRCUIT, and what became of it.

    The command is sent by a thread of its own: a reply that comes after the caller has gone (Ctrl-C, the timeout) then
    still finds somebody who closes the circuit.
    """

    def __init__(
        self,
        control: ControlClient,
        mapper: CircuitMapper,
        span: Span,
        circuit_id: str,
        path: tuple[Relay | RelayStatus, ...],
    ) -> None:
        self._control = control
        self._mapper = mapper
        self._span = span
        self._target = circuit_id
        self._path = path
        self._lock = threading.Lock()
        self._is_abandoned = False
        self.done = threading.Event()
        self.circuit_id: str | None = None
        self.outcome: Outcome | None = None
        self.error: Exception | None = None

    def start(self) -> None:
        threading.Thread(target=self._send, name="clew-extend-circuit", daemon=True).start()

    def abandon(self) -> None:
        """Nobody waits any more: have tor close the circuit, now or as soon as it has an id, and wait a moment."""
        with self._lock:
            self._is_abandoned = True
            has_circuit = self.circuit_id is not None
        if has_circuit:
            threading.Thread(target=self._close, name="clew-close-circuit", daemon=True).start()
        self.done.wait(_CLOSE_WAIT_SECONDS)

    def _send(self) -> None:
        is_new = self._target == "0"
        ticket = self._mapper.expect(None if is_new else self._target)
        try:
            names = [relay.fingerprint or relay.nickname for relay in self._path]
            circuit_id = self._control.extend_circuit(self._target, names)
        except Exception as error:  # noqa: BLE001 - the caller raises it, whatever it is
            self._mapper.withdraw(ticket)
            self.error = error
            self.done.set()
            return
        with self._lock:
            self.circuit_id = circuit_id
            is_abandoned = self._is_abandoned
        path = tuple(Relay(relay.fingerprint, relay.nickname) for relay in self._path)
        extend_time_ns = None if is_new else self._span.start_time_ns
        self._mapper.claim(ticket, circuit_id, Claim(self._span, self._end, path, extend_time_ns))
        if is_abandoned:
            self._close()

    def _end(self, outcome: Outcome) -> None:
        self.outcome = outcome
        self.done.set()

    def _close(self) -> None:
        assert self.circuit_id is not None
        with suppress(TorError):  # it is gone already, or tor is
            self._control.close_circuit(self.circuit_id)


def _parse_relay(name: str) -> Relay:
    """A relay as a person names it: "$FINGERPRINT~nickname", "FINGERPRINT", "nickname".

    Source: control-spec 2.4 (ServerSpec).
    """
    bare = name.removeprefix("$")
    if len(bare) >= 40:
        return Relay(bare[:40].upper(), bare[41:])
    return Relay("", bare)


def _fail(span: Span, error_type: str, description: str = "") -> None:
    span.set_attribute("error.type", error_type)
    span.set_status(Status.ERROR, description)


def _refused(error: ControlReplyError, circuit_id: str | None) -> CircuitError:
    """tor's own words up to what they quote: that is the name of a relay ('No such router "..."')."""
    words = error.text.partition('"')[0].strip()
    return CircuitError(f"tor refused: {error.code} {words}", circuit_id=circuit_id, reason=f"reply_{error.code}")


def _too_late(attempt: _Attempt, timeout: float) -> CircuitError:
    if attempt.circuit_id is None:
        where = "tor did not answer"
    elif attempt.outcome is None or attempt.outcome.failed_hop is None:
        where = "tor was still at it"
    else:
        where = f"hop {attempt.outcome.failed_hop} was in progress"
    message = f"the circuit was not built within {timeout:g} s: {where}"
    return CircuitError(message, circuit_id=attempt.circuit_id, reason="timeout")


def _lower(reason: str | None) -> str | None:
    return None if reason is None else reason.lower()
