"""From the queue to the exporter: the worker thread, flush and close, forks, the end of the process.

One consumer at a time takes batches from the queue: the worker thread, which starts when the first span of a process
ends, or, where no thread can be started, whoever calls flush or close. Everything a pipeline has in one process lies in
a `_Process`; a child makes another, because a lock of its parent may be held by a thread that the child does not have.
No fork hook of Python is needed for that: the native core counts forks, also those that a server makes in C.
"""

from __future__ import annotations

import _thread
import atexit
from time import monotonic
from typing import TYPE_CHECKING, Any
from weakref import WeakSet

from clew._hot import fork_count, remote_span, split_by_scope, use_span
from clew.errors import ExportError
from clew.limits import ERROR_LOG_SECONDS, GIVE_UP_SECONDS, SCOPES, SIGNAL_SECONDS
from clew.model import SpanContext
from clew.otlp import Batch
from clew.processes import allocate_lock, close_with_celery, close_with_multiprocessing, is_master_of_uwsgi, of_system

if TYPE_CHECKING:
    from _thread import LockType
    from collections.abc import Callable

    from clew._hot import Queue
    from clew.keeping import Kept, Stage
    from clew.model import Resource, Scope
    from clew.protocols import Exporter

__all__ = ["Pipeline", "allocate_lock", "close_all", "flush_all", "time_left"]

_INFINITY = float("inf")  # math.inf is not worth loading another library

# Current while an exporter works, so that an HTTP client that is itself traced starts no trace of its own, which would
# be exported, which would start another: a local span that is not sampled, whose children are not either.
_UNTRACED = remote_span(SpanContext("0" * 31 + "1", "0" * 15 + "1"))


_get_ident = of_system("get_ident")
_start_new_thread = of_system("start_new_thread")


# What this thread, or greenlet, delivers: `now` is a pipeline and a deadline, or None. (threading.local, which costs an
# import.)
_delivery = _thread._local()  # noqa: SLF001


def time_left() -> float:
    """How long the export that runs on this thread may still take: seconds, infinitely many unless the program ends or
    the tracer has an `export_timeout`.

    For exporters that wait: what is not done by the end of the program is cut off, and neither reported nor in the
    ledger. So ask again while waiting, and raise when nothing is left.
    """
    now: tuple[Pipeline, float] | None = getattr(_delivery, "now", None)
    if now is None:
        return _INFINITY
    pipeline, deadline = now
    return min(pipeline.give_up, deadline) - monotonic()


class _Process:
    """A pipeline's state in one process."""

    __slots__ = ("consumer", "lost_seen", "running", "settled", "waiters", "worker")

    def __init__(self) -> None:
        self.consumer = allocate_lock()  # held by whoever takes from the queue
        self.running = False  # a worker was started, and has not ended
        self.worker = 0  # its thread's id
        self.settled = 0  # spans of the queue that were delivered or failed
        self.lost_seen = 0  # the queue's lost_total when flush last told of it
        self.waiters: list[tuple[float, LockType]] = []  # (value of `settled` waited for, lock to release then)

    def release(self, waiters: tuple[tuple[float, LockType], ...], settled: float) -> None:
        """Let those of them go on who waited for `settled` spans or fewer."""
        for waiter in waiters:
            if waiter[0] <= settled:
                # Whoever waits removes the waiter too, when its time is up.
                try:
                    self.waiters.remove(waiter)
                except ValueError:
                    continue
                waiter[1].release()


class Pipeline:
    """Takes batches from a queue and gives them to an exporter.

    Args:
        queue: its `start_worker` becomes this pipeline's.
        batch_delay: seconds after which a batch is exported that is not full.
        close_timeout: seconds that the end of the process may be delayed by.
        stages: what decides between the queue and the exporter, in this order.
        export_timeout: seconds that the export of a batch may take, for exporters that ask for `time_left`.

    `exporter` may be replaced at any moment, by one that gives the batches on: the next batch goes there.
    """

    def __init__(
        self,
        queue: Queue,
        exporter: Exporter,
        resource: Resource,
        scope: Scope,
        batch_delay: float,
        close_timeout: float,
        stages: tuple[Stage, ...] = (),
        export_timeout: float = _INFINITY,
    ) -> None:
        self._queue = queue
        self._stages = stages
        self.exporter = exporter
        self.resource = resource
        self._scopes = [scope]
        self._batch_delay = batch_delay
        self._export_timeout = export_timeout
        self.close_timeout = close_timeout
        self.give_up = _INFINITY  # when an exporter has to, a time of `monotonic()`: the program ends
        self._waited = 0.0  # seconds that close has waited so far
        self._processes: dict[int, _Process] = {}
        self._closing = False
        self._abandoned = False
        self._exporter_closed = False
        self._reported: dict[tuple[type[BaseException], object], tuple[float, int]] = {}
        queue.start_worker = self.start_worker
        _live.add(self)

    # --- the worker --------------------------------------------------------------------------------------------------

    def start_worker(self) -> None:
        """Start the worker thread of this process, if it has none.

        Thread: any, at any moment: it is called by the first `Span.end()` of a process, which a finalizer may have
            called in the middle of anything. So this takes no lock, waits for nothing and raises nothing;
            `threading.Thread.start` would do all three.
        """
        process = self._here()
        if process.running or _ending or is_master_of_uwsgi():
            return
        process.running = True
        try:
            _start_new_thread(self._work, (process,))
        except (RuntimeError, MemoryError):
            # No thread to be had: flush and close try again, and else deliver on the thread that calls them.
            process.running = False
            self._queue.count_error()
        close_with_multiprocessing(close_all)

    def _here(self) -> _Process:
        generation = fork_count()
        process = self._processes.get(generation)
        if process is None:
            # setdefault is atomic, so threads that come here together agree on one.
            process = self._processes.setdefault(generation, _Process())
            for inherited in [key for key in self._processes if key != generation]:
                self._processes.pop(inherited, None)
        return process

    def _work(self, process: _Process) -> None:
        close_with_celery(close_all)
        try:
            with process.consumer, use_span(_UNTRACED):
                process.worker = _get_ident()
                _delivery.now = self, _INFINITY
                while self._work_once(process):
                    pass
                self._finish()
        finally:
            process.running = False
            process.worker = 0
            process.release(tuple(process.waiters), _INFINITY)

    def _work_once(self, process: _Process) -> bool:
        """Deliver one batch; False when there is nothing more to do for ever."""
        # Read before the queue is: what ended until then is in it. Who comes to wait after that wakes us up, and is let
        # go by the next look, at the queue and at what the stages hold.
        finishing = self._closing or (self._abandoned and self._queue.stats().open == 0)
        waiters = tuple(process.waiters)
        found = self._deliver(process, 0.0 if finishing or waiters else self._batch_delay)
        process.release(waiters, process.settled)
        return found or not finishing

    def _deliver(self, process: _Process, timeout: float) -> bool:
        """Take a batch, export it, settle it; False if there was none. The caller is the consumer."""
        try:
            taken = self._queue.take(timeout)
        except MemoryError:
            self._queue.count_error()
            return False
        if taken is None:
            if self._stages:
                self._deliver_kept(process, "idle")
            return False
        spans, count = taken
        if self._stages:
            try:
                self._deliver_kept(process, "take", spans, count)
            finally:
                process.settled += count
            return True
        failed = count
        try:
            failed = self._export(process, spans, count)
        finally:
            self._queue.settle(count - failed, failed)
            process.settled += count
        return True

    def _export(self, process: _Process, spans: bytes, count: int) -> int:
        """Give what came out of the queue to the exporter; how many spans could not be delivered."""
        if len(self._scopes) == 1:
            return self._export_batch(process, Batch(spans, count, self.resource, self._scopes[0]))
        return sum(
            self._export_batch(process, Batch(part, part_count, self.resource, self._scopes[number]))
            for part, part_count, number in split_by_scope(spans)
        )

    def _export_batch(self, process: _Process, batch: Batch) -> int:
        count = batch.count
        outer = getattr(_delivery, "now", None)
        deadline = _INFINITY if outer is None else outer[1]
        _delivery.now = self, min(deadline, monotonic() + self._export_timeout)
        try:
            self.exporter.export(batch)
        except ExportError as error:
            failed = count if error.rejected is None else min(max(error.rejected, 0), count)
            self._report(error, failed)
            return failed
        except BaseException as error:
            # On the worker nothing may end the thread; on the caller's, Ctrl-C is the caller's.
            if not isinstance(error, Exception) and process.worker != _get_ident():
                raise
            self._report(error, count)
            return count
        finally:
            _delivery.now = outer
        return 0

    def _deliver_kept(self, process: _Process, call: str, spans: bytes = b"", count: int = 0) -> None:
        """Have the stages take a batch ("take"), or look at what they hold ("idle", "finish"); export what comes."""
        batches: list[tuple[bytes, int]] = [(spans, count)] if count else []
        exported = let_go = 0
        for stage in self._stages:
            given, batches = batches, []
            for batch in given:
                let_go += self._through(stage.take, batches, *batch, process.settled)
            if call != "take":
                let_go += self._through(getattr(stage, call), batches)
        try:
            for batch in batches:
                exported += batch[1] - self._export(process, *batch)
        finally:
            self._queue.settle_kept(exported, sum(batch[1] for batch in batches) - exported, let_go)

    def _through(self, call: Callable[..., Kept], batches: list[tuple[bytes, int]], *batch: Any) -> int:
        """What a stage lets go; what it gives is added to `batches`."""
        try:
            kept = call(*batch)
        except Exception as error:  # noqa: BLE001 - what cannot be decided about is exported
            self._report(error, 0)
            if batch:
                batches.append((batch[0], batch[1]))
            return 0
        batches.extend(kept.batches)
        return kept.let_go

    def _finish(self) -> None:
        """Once, by the consumer, after the last batch."""
        if self._exporter_closed:
            return
        self._queue.closed = True
        if self._stages:
            self._deliver_kept(self._here(), "finish")
        try:
            self.exporter.close()
        except Exception as error:  # noqa: BLE001 - whatever an exporter raises stays away from the program
            self._report(error, 0)
        finally:
            self._exporter_closed = True
            # The queue held this pipeline, and this pipeline the queue: without the cycle both are freed at once.
            self._queue.start_worker = None
            _live.discard(self)

    def _report(self, error: BaseException, failed: int) -> None:
        self._queue.count_error()
        kind = type(error), getattr(error, "errno", None)
        now = monotonic()
        last, untold = self._reported.get(kind, (-_INFINITY, 0))
        if now - last < ERROR_LOG_SECONDS:
            self._reported[kind] = last, untold + failed
            return
        self._reported[kind] = now, 0
        try:
            # Here and not above: most programs never need it, and `import clew` is to be quick.
            import logging

            logging.getLogger("clew").warning(
                "%s %s%s: %s",
                type(getattr(self.exporter, "wrapped", self.exporter)).__name__,
                f"could not deliver {failed} spans" if failed or untold else "has a problem",
                f" (and {untold} since it last said so)" if untold else "",
                f"{type(error).__name__}: {error}",
            )
        except Exception:  # noqa: BLE001 - a log that cannot be written must not end the worker
            self._queue.count_error()

    # --- everybody ---------------------------------------------------------------------------------------------------

    def scope_number(self, scope: Scope) -> int:
        """The number by which spans say that they are of a scope: of one that is known, or that is from now on.

        Beyond `limits.SCOPES` it is 0, the pipeline's own. Thread: any.
        """
        try:
            return self._scopes.index(scope)
        except ValueError:
            if len(self._scopes) >= SCOPES:
                return 0
            self._scopes.append(scope)  # two threads may both: then it is there twice, and either number is right
            return self._scopes.index(scope)

    def flush(self, timeout: float) -> bool:
        """Deliver now what ended so far.

        Args:
            timeout: seconds to wait at the most.

        Returns: whether all that ended before the call was delivered, and nothing was lost (dropped, or failed to be
            delivered) since the flush before.
        Thread: any. Blocks; Ctrl-C interrupts it.
        """
        deadline = monotonic() + timeout
        process = self._here()
        lost_seen = process.lost_seen
        target = self._queue.put_total
        self._wait(process, target, deadline)
        process.lost_seen = self._queue.lost_total
        return process.settled >= target and process.lost_seen == lost_seen

    def close(self, timeout: float) -> bool:
        """End the open spans, marked unfinished, deliver everything, close the exporter and end the worker.

        Args:
            timeout: seconds to wait at the most; the worker goes on if it needs longer.

        Returns: as `flush`, and whether the exporter is closed.
        Thread: any, more than once. Blocks; Ctrl-C interrupts it.
        """
        begin = monotonic()
        self.begin_close()
        try:
            return self.finish_close(begin + timeout)
        finally:
            self._waited += monotonic() - begin

    def begin_close(self) -> None:
        """The part of `close` that does not wait."""
        if not self._closing:
            self._queue.end_open_spans()
            self._queue.closed = True
            # Last: a worker that sees it finds a queue that nothing more is put into.
            self._closing = True

    def finish_close(self, deadline: float) -> bool:
        """The part of `close` that waits, until a time of `monotonic()`."""
        process = self._here()
        if not self._exporter_closed:
            self._wait(process, _INFINITY, deadline)
        return (
            self._exporter_closed
            and process.settled >= self._queue.put_total
            and self._queue.lost_total == process.lost_seen
        )

    def begin_exit(self, begin: float, at_most: float) -> float:
        """What `begin_close` does, at the end of the program.

        Args:
            begin: of the end, a time of `monotonic()`.
            at_most: seconds that may be waited, if that is less than close_timeout.

        Returns: until when `finish_close` is to wait: as long as `close` may, less what it has waited already.
        """
        at_most = min(self.close_timeout, at_most)
        allowed = max(at_most - self._waited, min(at_most, GIVE_UP_SECONDS))
        # A little before, so that the exporter can tell what it did not deliver, and be closed.
        self.give_up = begin + allowed - min(allowed / 2, GIVE_UP_SECONDS)
        self.begin_close()
        return begin + allowed

    def abandon(self) -> None:
        """Nobody holds the tracer any more: end the worker when the last of its spans has ended and is delivered.

        Thread: any, also within a finalizer. Does not wait.
        """
        if not self._closing:
            self._abandoned = True
            self.start_worker()
            self._queue.wake()

    def _wait(self, process: _Process, target: float, deadline: float) -> None:
        """Until `target` spans are settled (infinitely many: until the exporter is closed), or the deadline."""
        # A stage may have been told to give what it holds. An exporter that flushes its own tracer waited for itself.
        if (process.settled >= target and not self._stages) or process.worker == _get_ident():
            return
        self.start_worker()
        done = allocate_lock()
        done.acquire()
        waiter = target, done
        process.waiters.append(waiter)
        try:
            self._queue.wake()
            # Looked at after the waiter was added: a worker that ends from now on releases it.
            # In slices: a signal that comes just before a wait begins does not end it (Ctrl-C would be lost).
            while process.running and not done.acquire(timeout=min(_left(deadline), SIGNAL_SECONDS)):
                if monotonic() >= deadline:
                    break
        finally:
            if waiter in process.waiters:
                process.waiters.remove(waiter)
        if not process.running:
            self._deliver_here(process, target, deadline)

    def _deliver_here(self, process: _Process, target: float, deadline: float) -> None:
        """On the caller's thread, where there is no worker. An exporter that hangs cannot be left before it returns."""
        if not process.consumer.acquire(timeout=_left(deadline)):
            return
        outer = getattr(_delivery, "now", None)  # if an exporter flushes another tracer
        _delivery.now = self, deadline
        try:
            with use_span(_UNTRACED):
                while process.settled < target and monotonic() < deadline:
                    if not self._deliver(process, 0.0):
                        if self._closing:
                            self._finish()
                        break
        finally:
            _delivery.now = outer
            process.consumer.release()


def _left(deadline: float) -> float:
    return min(max(deadline - monotonic(), 0.0), _thread.TIMEOUT_MAX)


# --- the end of the process ------------------------------------------------------------------------------------------

_live: WeakSet[Pipeline] = WeakSet()  # pipelines that are not closed
_ending = False  # from now on no thread can be started, or should be


def flush_all(timeout: float) -> None:
    """Deliver what has ended, of every tracer of this process.

    Args:
        timeout: seconds to wait at the most, for all of them together.
    """
    deadline = monotonic() + timeout
    for pipeline in list(_live):
        pipeline.flush(_left(deadline))


def close_all(at_most: float = _INFINITY) -> None:
    """Close what the program left open, all at the same time.

    Args:
        at_most: seconds, if that is less than a pipeline's own close_timeout.
    """
    global _ending  # noqa: PLW0603 - the process has one end
    _ending = True
    try:
        begin = monotonic()
        pipelines = list(_live)
        deadlines = [pipeline.begin_exit(begin, at_most) for pipeline in pipelines]
        for pipeline, deadline in zip(pipelines, deadlines, strict=True):
            pipeline.finish_close(deadline)
    except KeyboardInterrupt:
        # Somebody who waits for the end of the program does not want to wait for its traces.
        return


# When clew is imported, so that functions which the program registers afterwards run before, and their spans arrive.
atexit.register(close_all)
