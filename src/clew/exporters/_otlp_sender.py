"""Messages on their way to a receiver: tries and pauses, one process and its children.

Source: OTLP specification 1.9, "OTLP/HTTP Throttling", "OTLP/HTTP Connection", "OTLP/gRPC Throttling".
"""

from __future__ import annotations

import os
from time import monotonic
from typing import TYPE_CHECKING, Protocol

from clew._hot import fork_count
from clew.exporters._otlp_answer import Verdict
from clew.exporters._patience import OutOfTimeError, Patience
from clew.limits import (
    OTLP_BACKOFF_MOST_SECONDS,
    OTLP_BACKOFF_SECONDS,
    OTLP_REQUEST_BYTES,
    OTLP_RETRY_AFTER_SECONDS,
)
from clew.pipeline import allocate_lock

if TYPE_CHECKING:
    from _thread import LockType
    from collections.abc import Iterable

    from clew.exporters._otlp_answer import Answer
    from clew.exporters._otlp_settings import Settings

__all__ = ["Sender", "make_sender"]


class Connection(Protocol):
    """What a message is sent on, by one thread at a time. It connects when it has to."""

    def send(self, body: bytes, patience: Patience) -> Answer: ...
    def close(self) -> None: ...
    def forget(self) -> None: ...


class Transport(Protocol):
    """What the connections to one endpoint have in common."""

    def open(self) -> Connection: ...


class Sender:
    """Sends messages to one endpoint."""

    def __init__(self, transport: Transport, timeout: float) -> None:
        self._transport = transport
        self._timeout = timeout
        self._processes: dict[int, _Process] = {}

    def send(self, messages: Iterable[tuple[bytes | None, int]]) -> tuple[int, str]:
        """Deliver messages, all of them within the timeout.

        Args:
            messages: each with the number of its spans; None for spans that no message holds.

        Returns: how many spans were not delivered, and what there is to say of it, or "".
        """
        patience = Patience(self._timeout)
        process = self._here()
        failed, problem = 0, ""
        for body, count in messages:
            if body is None:
                lost, said = count, f"a span does not fit into the {OTLP_REQUEST_BYTES} bytes that a request may have"
            else:
                lost, said = process.deliver(body, count, patience)
            failed += lost
            problem = said or problem
        return failed, problem

    def close(self) -> None:
        """Close the connection; `send` makes another."""
        self._here().close()

    def _here(self) -> _Process:
        generation = fork_count()
        process = self._processes.get(generation)
        if process is None:
            process = self._processes.setdefault(generation, _Process(self._transport.open()))
            for inherited in [key for key in self._processes if key != generation]:
                self._processes.pop(inherited).connection.forget()
        return process


class _Process:
    """The state in one process: a child shares no connection and no lock with its parent."""

    def __init__(self, connection: Connection) -> None:
        self.connection = connection
        self._lock: LockType = allocate_lock()  # tracers may share an exporter
        self._not_before = 0.0  # the time of `monotonic()` for the next try
        self._said = ""  # why it has to wait

    def close(self) -> None:
        """Close the connection, unless another tracer is using it, which closes it in its turn."""
        if self._lock.acquire(blocking=False):
            self.connection.close()
            self._lock.release()

    def deliver(self, body: bytes, count: int, patience: Patience) -> tuple[int, str]:
        """One message: how many of its spans were not delivered, and what there is to say of it."""
        tries, said = 0, "other spans took all the time there was"
        try:
            patience.acquire(self._lock)
            try:
                said = self._said
                while True:
                    # Where a receiver asked for time, also the batches after that one wait. They do it here, and those
                    # behind them in the queue: to give each up at once would lose more of them.
                    patience.sleep_until(self._not_before)
                    said = said if tries else "it did not answer in time"
                    tries += 1
                    answer = self.connection.send(body, patience)
                    if answer.verdict is Verdict.DELIVERED:
                        return min(answer.rejected, count), answer.text
                    if answer.verdict is Verdict.NEVER:
                        return count, answer.text
                    said = self._said = answer.text
                    self._not_before = monotonic() + _pause(tries, answer.wait)
            finally:
                self._lock.release()
        except OutOfTimeError:
            return count, said + (f" (given up after {tries} tries)" if tries > 1 else "")


def make_sender(settings: Settings) -> Sender:
    """A sender, with all that it needs loaded: the worker imports nothing.

    Raises: ConfigurationError.
    """
    if settings.protocol == "grpc":
        from clew.exporters._grpc import GrpcTransport

        return Sender(GrpcTransport(settings), settings.timeout)
    from clew.exporters._http import HttpTransport

    return Sender(HttpTransport(settings), settings.timeout)


def _pause(tries: int, asked: float | None) -> float:
    """Seconds until the next try: what the receiver asked for, and a part that grows and is drawn by lot.

    Drawn, so that all who lost the same receiver do not come back at the same moment; not from `random`, which programs
    seed.
    """
    most = min(OTLP_BACKOFF_SECONDS * (1 << min(tries - 1, 30)), OTLP_BACKOFF_MOST_SECONDS)
    drawn = most * (0.5 + os.urandom(1)[0] / 512)
    return drawn if asked is None else min(asked, OTLP_RETRY_AFTER_SECONDS) + drawn / 10
