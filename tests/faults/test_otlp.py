"""OtlpExporter and receivers that hang, break, drip and lie; TLS; forks; the end of the process.

Scenarios 9, 10, 14, 22 and 23 of the reliability table, over real sockets.
"""

from __future__ import annotations

import signal
import ssl
import threading
from collections import Counter
from email.utils import formatdate
from time import monotonic, time
from typing import TYPE_CHECKING, Any

import pytest
import trustme
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTracePartialSuccess,
    ExportTraceServiceResponse,
)

from clew import ConfigurationError, OtlpExporter, Tracer
from clew.exporters import _otlp_sender
from tests.asleep import wait_until_asleep
from tests.faults.conftest import judge, start
from tests.grpc_receiver import GrpcReceiver
from tests.otlp_receiver import Receiver, at_once, drip, early, hang, hang_up, raw, reply, reset

if TYPE_CHECKING:
    from pathlib import Path

    from clew import Stats
    from tests.faults.conftest import Run

SECONDS = 30.0
LOG_TO_STDOUT = """
import logging
logging.getLogger("clew").addHandler(logging.StreamHandler(sys.stdout))
"""
OK = b"HTTP/1.1 200 OK\r\nContent-Type: application/x-protobuf\r\nContent-Length: 0\r\n\r\n"


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pauses that nobody notices."""
    monkeypatch.setattr(_otlp_sender, "OTLP_BACKOFF_SECONDS", 0.001)


def deliver(receiver: Receiver, *, count: int = 3, name: str = "span", **arguments: Any) -> tuple[Stats, bool]:
    """Trace something; the ledger, and whether all of it was delivered."""
    tracer = Tracer("test", OtlpExporter(receiver.url, **arguments))
    for _ in range(count):
        tracer.start_span(name).end()
    delivered = tracer.close(SECONDS)
    stats = tracer.stats()
    assert stats.ended == count == stats.exported + stats.failed
    assert delivered == (stats.failed == 0)
    return stats, delivered


def encode_partial_success(rejected: int, message: str) -> bytes:
    """What a receiver says that does not take all, by OpenTelemetry's own classes."""
    said = ExportTracePartialSuccess(rejected_spans=rejected, error_message=message)
    return ExportTraceServiceResponse(partial_success=said).SerializeToString()


def problem(caplog: pytest.LogCaptureFixture) -> str:
    """What the one warning says, without the names."""
    (record,) = caplog.records
    return record.getMessage().partition("/v1/traces: ")[2]


# --- connections -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("fault", [hang_up, reset, raw(b"HTTP/1.1 200 OK\r\nContent-", close=True)])
def test_a_connection_that_breaks(fault: Any) -> None:
    """Scenario 23: without an answer the request is sent again, on another connection."""
    with Receiver(fault, fault, reply()) as receiver:
        assert deliver(receiver)[1]
        assert [request.connection for request in receiver.requests] == [1, 2, 3]


def test_a_receiver_that_is_not_there_yet(monkeypatch: pytest.MonkeyPatch) -> None:
    """Scenario 23: a connection that is refused is tried again until there is one."""
    receiver = Receiver()
    receiver.close()
    pauses: list[int] = []

    def pause(tries: int, asked: float | None) -> float:
        pauses.append(tries)
        if tries == 3:
            receivers.append(Receiver(port=receiver.port))
        return 0.001

    receivers: list[Receiver] = []
    monkeypatch.setattr(_otlp_sender, "_pause", pause)
    assert deliver(receiver)[1]
    receivers[0].close()
    assert pauses == [1, 2, 3]
    assert len(receivers[0].records) == 3


def test_a_kept_connection_that_the_receiver_closes() -> None:
    """A new one is made at once: that a receiver closes what is not used is no fault."""
    with Receiver() as receiver:
        tracer = Tracer("test", OtlpExporter(receiver.url))
        for number in range(4):
            tracer.start_span("span").end()
            assert tracer.flush(SECONDS)
            assert receiver.connections == number + 1
            receiver.hang_up_all()
        assert tracer.close(SECONDS)
        assert tracer.stats().errors == 0


def test_a_kept_connection_that_breaks_when_it_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    """The same, when its end comes together with the next request."""
    monkeypatch.setattr(_otlp_sender, "_pause", lambda *_: pytest.fail("it waited"))
    with Receiver(reply(), hang_up, reply()) as receiver:
        tracer = Tracer("test", OtlpExporter(receiver.url))
        for _ in range(2):
            tracer.start_span("span").end()
            assert tracer.flush(SECONDS)
        assert tracer.close(SECONDS)
        assert [request.connection for request in receiver.requests] == [1, 1, 2]


def test_nobody_listens(caplog: pytest.LogCaptureFixture) -> None:
    """It is said in words, and the spans are failed."""
    receiver = Receiver()
    receiver.close()
    stats, _ = deliver(receiver, timeout=0.05)
    assert stats.failed == 3
    assert problem(caplog).startswith("nobody listens there (given up after ")


def test_a_name_that_does_not_exist(caplog: pytest.LogCaptureFixture) -> None:
    """The same."""
    tracer = Tracer("test", OtlpExporter("http://name.invalid", timeout=0.05))
    tracer.start_span("span").end()
    assert not tracer.close(SECONDS)
    assert "its name cannot be resolved" in problem(caplog)


# --- time ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("fault", [hang, drip(OK, 0.02), drip(b"HTTP/1.1 100 Continue\r\n\r\n" * 100, 0.02)])
def test_a_receiver_that_hangs_or_drips(fault: Any, caplog: pytest.LogCaptureFixture) -> None:
    """Scenario 10: the time is that of the delivery, not of each byte; nothing is sent twice."""
    with Receiver(fault) as receiver:
        stats, _ = deliver(receiver, timeout=0.2)
        assert stats.failed == 3
        assert len(receiver.requests) == 1
    assert problem(caplog) == "it did not answer in time"


def test_a_receiver_that_drips_in_time() -> None:
    """A slow answer is an answer."""
    with Receiver(drip(OK, 0.001)) as receiver:
        assert deliver(receiver)[1]


def test_a_receiver_that_does_not_read(caplog: pytest.LogCaptureFixture) -> None:
    """Sending is within the time too."""
    with Receiver(early(hang)) as receiver:
        stats, _ = deliver(receiver, count=1, name="x" * 20_000_000, timeout=0.2)
        assert stats.failed == 1
    assert problem(caplog) == "it did not answer in time"


def test_flush_returns_while_the_receiver_hangs() -> None:
    """Scenario 10: and says that it did not deliver; end() never waits."""
    with Receiver(hang) as receiver:
        tracer = Tracer("test", OtlpExporter(receiver.url, timeout=0.05), batch_spans=10)
        for _ in range(100):
            tracer.start_span("span").end()
        assert not tracer.flush(0.01)
        assert tracer.stats().queued == 100
        assert not tracer.close(SECONDS)
        assert tracer.stats().failed == 100


@pytest.mark.parametrize("date", [True, False])
def test_a_receiver_that_asks_for_time(date: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Scenario 23: Retry-After in both forms."""
    asked: list[float | None] = []

    def pause(tries: int, seconds: float | None) -> float:
        asked.append(seconds)
        return 0.0

    monkeypatch.setattr(_otlp_sender, "_pause", pause)
    when = formatdate(time() + 100, usegmt=True) if date else "100"
    with Receiver(reply(503, Retry_After=when), reply(503), reply()) as receiver:
        assert deliver(receiver)[1]
        assert len(receiver.requests) == 3
    assert asked == [pytest.approx(100, abs=SECONDS), None]


def test_the_time_that_a_receiver_asks_for_is_waited() -> None:
    """Scenario 23: nothing is sent before it is over."""
    with Receiver(reply(503, Retry_After="1"), reply()) as receiver:
        begin = monotonic()
        assert deliver(receiver)[1]
        assert monotonic() - begin >= 1
        assert len(receiver.requests) == 2


@pytest.mark.parametrize("status", [429, 502, 503, 504])
def test_statuses_after_which_it_is_sent_again(status: int) -> None:
    """Scenario 23: these, and no others; until the time is over."""
    with Receiver(reply(status), reply(status), reply()) as receiver:
        assert deliver(receiver)[1]
        assert [len(request.records) for request in receiver.requests] == [3, 3, 3]
    with Receiver(reply(status)) as receiver:
        assert deliver(receiver, timeout=0.1)[0].failed == 3
        assert len(receiver.requests) > 1


@pytest.mark.parametrize("status", [301, 400, 401, 404, 408, 413, 500, 501])
def test_statuses_after_which_it_is_not(status: int) -> None:
    """Scenario 23: what is refused once is refused."""
    with Receiver(reply(status), reply()) as receiver:
        assert deliver(receiver)[0].failed == 3
        assert len(receiver.requests) == 1


@pytest.mark.parametrize("protocol", ["http/protobuf", "http/json"])
def test_spans_that_the_receiver_rejects(protocol: str) -> None:
    """Scenario 22: the ledger counts them, and nothing is sent again."""
    answer = encode_partial_success(2, "too old")
    if protocol == "http/json":
        answer = b'{"partialSuccess": {"rejectedSpans": "2", "errorMessage": "too old"}}'
    kind = "application/json" if protocol == "http/json" else "application/x-protobuf"
    with Receiver(reply(200, answer, kind), reply()) as receiver:
        stats, delivered = deliver(receiver, count=5, protocol=protocol)
        assert (stats.exported, stats.failed, delivered) == (3, 2, False)
        assert len(receiver.requests) == 1


# --- lies ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "answer",
    [
        raw(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nabc", close=True),
        raw(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nabc", close=True),
    ],
)
def test_an_answer_that_is_shorter_than_it_says(answer: Any, caplog: pytest.LogCaptureFixture) -> None:
    """The spans were taken, so much is known: they are not sent twice, and the fault is logged."""
    with Receiver(answer) as receiver:
        assert deliver(receiver)[1]
        assert len(receiver.requests) == 1
    assert problem(caplog) == "it answered 200, but not readably whether it rejected any"


def test_an_answer_that_is_longer_than_it_says() -> None:
    """What comes after it is not taken for the next answer."""
    with Receiver(raw(OK + b"HTTP/1.1 500 No\r\nContent-Length: 0\r\n\r\n")) as receiver:
        tracer = Tracer("test", OtlpExporter(receiver.url))
        for _ in range(3):
            tracer.start_span("span").end()
            assert tracer.flush(SECONDS)
        assert tracer.close(SECONDS)
        assert receiver.connections == 3


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (raw(b"HTTP/1.1 200 OK\r\nContent-Length: 99999999999\r\n\r\n"), "its answer is longer than 4194304 bytes"),
        (raw(b"HTTP/1.1 503 No\r\n\r\n" + b"x" * 5_000_000, close=True), "its answer is longer than 4194304 bytes"),
        (raw(b"HTTP/1.1 200 OK\r\n" + b"a: b\r\n" * 20_000), "the head of its answer is longer than 65536 bytes"),
        (raw(b"\x00\x00\x12\x04\x00\x00\x00\x00\x00"), "it does not speak HTTP/1.1"),
        (raw(b"220 mail.example ESMTP\r\n"), "it does not speak HTTP/1.1"),
    ],
)
def test_an_answer_that_is_none(answer: Any, words: str, caplog: pytest.LogCaptureFixture) -> None:
    """Too much, or not HTTP: that is final, and the memory for it is bounded."""
    with Receiver(answer) as receiver:
        assert deliver(receiver)[0].failed == 3
        assert len(receiver.requests) == 1
    assert problem(caplog) == words


def test_a_refusal_before_all_was_sent(caplog: pytest.LogCaptureFixture) -> None:
    """A receiver that does not want so much says so and closes; its words are found behind the broken connection."""
    refusal = b"HTTP/1.1 413 No\r\nContent-Type: text/plain\r\nContent-Length: 8\r\n\r\ntoo much"
    with Receiver(early(raw(refusal, close=True))) as receiver:
        stats, _ = deliver(receiver, count=1, name="x" * 20_000_000)
        assert stats.failed == 1
        assert len(receiver.requests) == 1
    assert problem(caplog) == 'it answered 413 Content Too Large: "too much"'


# --- TLS -------------------------------------------------------------------------------------------------------------


class Authority:
    """Certificates of a test's own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.ca = trustme.CA()
        self.certificate = folder / "ca.pem"
        self.ca.cert_pem.write_to_path(str(self.certificate))

    def server(self, name: str = "127.0.0.1", *, ask: bool = False) -> ssl.SSLContext:
        """What a receiver of that name has; it may ask for a certificate of the client."""
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        self.ca.issue_cert(name).configure_cert(context)
        if ask:
            context.verify_mode = ssl.CERT_REQUIRED
            self.ca.configure_trust(context)
        return context

    def client(self) -> tuple[Path, Path]:
        """The files of a client: certificate and key."""
        issued = self.ca.issue_cert("client@test.example")
        certificate, key = self.folder / "client.pem", self.folder / "client.key"
        certificate.write_bytes(b"".join(blob.bytes() for blob in issued.cert_chain_pems))
        issued.private_key_pem.write_to_path(str(key))
        return certificate, key


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path)


def test_tls(authority: Authority) -> None:
    """A receiver whose authority is trusted; the connection is kept."""
    with Receiver(tls=authority.server()) as receiver:
        tracer = Tracer("test", OtlpExporter(receiver.url, certificate=authority.certificate))
        for name in ("a", "b" * 1_000_000, "c"):
            tracer.start_span(name).end()
            assert tracer.flush(SECONDS)
        assert tracer.close(SECONDS)
        assert [record.name[0] for record in receiver.records] == ["a", "b", "c"]
        assert receiver.connections == 1


def test_tls_by_a_variable(authority: Authority, monkeypatch: pytest.MonkeyPatch) -> None:
    """OTEL_EXPORTER_OTLP_CERTIFICATE and its like name the files."""
    certificate, key = authority.client()
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_CERTIFICATE", str(authority.certificate))
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_TRACES_CLIENT_CERTIFICATE", str(certificate))
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_CLIENT_KEY", str(key))
    with Receiver(tls=authority.server(ask=True)) as receiver:
        assert deliver(receiver)[1]


def test_a_client_certificate(authority: Authority) -> None:
    """It is shown to a receiver that asks for one."""
    certificate, key = authority.client()
    with Receiver(tls=authority.server(ask=True)) as receiver:
        assert deliver(
            receiver, certificate=authority.certificate, client_certificate=certificate, client_key=str(key)
        )[1]
    both = authority.folder / "both.pem"
    both.write_bytes(key.read_bytes() + certificate.read_bytes())
    with Receiver(tls=authority.server(ask=True)) as receiver:
        assert deliver(receiver, certificate=authority.certificate, client_certificate=both)[1]


def test_a_client_certificate_that_is_missing(authority: Authority) -> None:
    """A receiver that asks for one gets no spans from who has none."""
    with Receiver(tls=authority.server(ask=True)) as receiver:
        assert deliver(receiver, certificate=authority.certificate, timeout=0.5)[0].failed == 3
        assert receiver.requests == []


def test_a_receiver_that_is_not_trusted(authority: Authority, caplog: pytest.LogCaptureFixture) -> None:
    """Neither one of an unknown authority; it gets not a byte of a request, and is not tried again."""
    with Receiver(tls=authority.server()) as receiver:
        assert deliver(receiver)[0].failed == 3
        assert receiver.requests == []
        assert receiver.connections == 1
    assert problem(caplog) == "TLS with it is not possible: unable to get local issuer certificate"


def test_a_receiver_of_another_name(authority: Authority, caplog: pytest.LogCaptureFixture) -> None:
    """Nor one with a certificate for somebody else."""
    with Receiver(tls=authority.server("other.example")) as receiver:
        assert deliver(receiver, certificate=authority.certificate)[0].failed == 3
        assert receiver.requests == []
    assert "IP address mismatch, certificate is not valid for '127.0.0.1'" in problem(caplog)


def test_a_receiver_without_tls(caplog: pytest.LogCaptureFixture) -> None:
    """Nor one that speaks plain HTTP on that port."""
    with Receiver(at_once(raw(b"HTTP/1.1 400 Bad Request\r\n\r\n"))) as receiver:
        tracer = Tracer("test", OtlpExporter(receiver.url.replace("http", "https")))
        tracer.start_span("span").end()
        assert not tracer.close(SECONDS)
        assert tracer.stats().failed == 1
    assert problem(caplog).startswith("TLS with it is not possible: ")


def test_a_handshake_that_hangs(caplog: pytest.LogCaptureFixture) -> None:
    """The time is for that as well."""
    with Receiver(at_once(hang)) as receiver:
        tracer = Tracer("test", OtlpExporter(receiver.url.replace("http", "https"), timeout=0.2))
        tracer.start_span("span").end()
        assert not tracer.close(SECONDS)
    assert problem(caplog) == "it did not answer in time"


@pytest.mark.parametrize("fault", [hang_up, reset])
def test_tls_that_breaks(authority: Authority, fault: Any) -> None:
    """Scenario 23, within TLS."""
    with Receiver(reply(), fault, reply(), tls=authority.server()) as receiver:
        tracer = Tracer("test", OtlpExporter(receiver.url, certificate=authority.certificate))
        for _ in range(3):
            tracer.start_span("span").end()
            assert tracer.flush(SECONDS)
        assert tracer.close(SECONDS)


@pytest.mark.parametrize("argument", ["certificate", "client_certificate", "client_key"])
def test_a_file_that_is_none(authority: Authority, argument: str) -> None:
    """A file that is missing or holds something else is a mistake of configuration, found at once."""
    certificate, key = authority.client()
    wrong = authority.folder / "wrong.pem"
    good = {"certificate": authority.certificate, "client_certificate": certificate, "client_key": key}
    for path in (authority.folder / "missing.pem", wrong):
        wrong.write_text("nothing")
        with pytest.raises(ConfigurationError, match=str(path)):
            OtlpExporter("https://a.example", **{**good, argument: path})  # type: ignore[arg-type]


def test_a_key_that_is_encrypted(authority: Authority) -> None:
    """Nobody is asked for its password on the terminal."""
    from cryptography.hazmat.primitives import serialization as form

    certificate, key = authority.client()
    secret = form.load_pem_private_key(key.read_bytes(), None)
    key.write_bytes(
        secret.private_bytes(form.Encoding.PEM, form.PrivateFormat.PKCS8, form.BestAvailableEncryption(b"pass"))
    )
    with pytest.raises(ConfigurationError, match="a key that is not encrypted"):
        OtlpExporter("https://a.example", client_certificate=certificate, client_key=key)


# --- processes -------------------------------------------------------------------------------------------------------


def test_forks(run: Run, authority: Authority) -> None:
    """Scenario 1: a child has a connection of its own, also to a receiver by TLS, whatever its parent's is at."""
    with Receiver(tls=authority.server()) as receiver:
        run(
            """
            tracer = Tracer("test", OtlpExporter(sys.argv[1], certificate=sys.argv[2]), batch_spans=5)
            done = threading.Event()
            def work():
                while not done.is_set():
                    make(tracer, 20, "parent")
                    time.sleep(0.002)
            thread = threading.Thread(target=work)
            thread.start()
            def child(number):
                make(tracer, 3, f"child {number}")
                assert tracer.flush(20), tracer.stats()
                make(tracer, 3, f"child {number}")
                assert tracer.close(20), tracer.stats()
            try:
                for number in range(40):
                    join(fork(lambda: child(number)))
            finally:
                done.set()
                thread.join()
            assert tracer.close(20)
            """,
            receiver.url,
            authority.certificate,
        )
        found = Counter(record.name for record in receiver.records)
        assert len({record.span_id for record in receiver.records}) == found.total()
        del found["parent"]
        assert found == {f"child {number}": 6 for number in range(40)}


def test_a_fork_waits_until_nobody_is_in_openssl(run: Run) -> None:
    """Scenario 2: a child would have OpenSSL's locks as they were, and its first handshake would wait for ever."""
    run(
        """
        from clew.exporters import _tls
        entered, order = threading.Event(), []
        def handshake():
            with _tls._in_openssl:
                entered.set()
                time.sleep(0.2)
                order.append("left")
        thread = threading.Thread(target=handshake)
        thread.start()
        entered.wait()
        def child():
            assert order == ["left"], order
            assert _tls._in_openssl.acquire(blocking=False)
        join(fork(child))
        thread.join()
        assert _tls._in_openssl.acquire(blocking=False)
        """
    )


def test_forks_and_grpc(run: Run) -> None:
    """Scenario 1: grpcio does not survive a fork; a child says so and ends as usual, and its parent goes on."""
    with GrpcReceiver() as receiver:
        out = run(
            """
            import logging
            logging.getLogger("clew").addHandler(logging.StreamHandler(sys.stdout))
            tracer = Tracer("test", OtlpExporter(sys.argv[1], protocol="grpc"))
            first = fork(lambda: (make(tracer, 3, "before"), print(tracer.close(20), flush=True)))
            join(first)
            for number in range(5):
                make(tracer, 3, "parent")
                assert tracer.flush(20)
                pid = os.fork()
                if pid == 0:
                    make(tracer, 3, "child")
                    assert not tracer.close(20)
                    sys.exit(tracer.stats().failed)
                assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 3
            assert tracer.close(20)
            """,
            receiver.url,
        )
        names = Counter(
            span.name
            for call in receiver.calls
            for resource in call.request.resource_spans
            for scope in resource.scope_spans
            for span in scope.spans
        )
        assert names == {"before": 3, "parent": 15}
    first, *said = out.splitlines()
    assert first == "True"
    assert len(said) == 5
    assert all("gRPC does not work in a process whose parent has used it before the fork" in line for line in said)


def test_a_fork_while_a_receiver_hangs(run: Run) -> None:
    """Scenario 1: the child does not wait for what its parent waits for."""
    with Receiver(hang, reply()) as receiver:
        run(
            LOG_TO_STDOUT
            + """
tracer = Tracer("test", OtlpExporter(sys.argv[1], timeout=1000), close_timeout=0.1)
make(tracer, 3, "parent")
tracer.flush(0.2)
def child():
    make(tracer, 3, "child")
    assert tracer.close(20), tracer.stats()
join(*[fork(child) for _ in range(10)])
""",
            receiver.url,
        )
        assert Counter(record.name for record in receiver.records) == {"parent": 3, "child": 30}


@pytest.mark.parametrize("scheme", ["http", "https"])
@pytest.mark.parametrize("protocol", ["http/protobuf", "http/json"])
def test_the_worker_imports_nothing(run: Run, authority: Authority, scheme: str, protocol: str) -> None:
    """Scenario 1: a child that is forked meanwhile would have half of it."""
    tls = authority.server() if scheme == "https" else None
    with Receiver(reply(503, Retry_After=formatdate(time(), usegmt=True)), reply(), tls=tls) as receiver:
        run(
            """
            certificate = sys.argv[2] if sys.argv[1].startswith("https") else None
            exporter = OtlpExporter(sys.argv[1], certificate=certificate, protocol=sys.argv[3], compression="gzip")
            tracer = Tracer("test", exporter)
            loaded = set(sys.modules)
            make(tracer, 3)
            assert tracer.flush(20)
            assert set(sys.modules) == loaded, set(sys.modules) - loaded
            """,
            receiver.url,
            authority.certificate,
            protocol,
        )


def test_a_name_is_resolved_without_an_import(run: Run) -> None:
    """The codec for names of hosts is loaded with the exporter."""
    with Receiver() as receiver:
        run(
            """
            tracer = Tracer("test", OtlpExporter(sys.argv[1]))
            loaded = set(sys.modules)
            make(tracer, 3)
            assert tracer.flush(20)
            assert set(sys.modules) == loaded, set(sys.modules) - loaded
            """,
            receiver.url.replace("127.0.0.1", "localhost"),
        )


@pytest.mark.parametrize("fault", ["hangs", "refuses"])
@pytest.mark.parametrize("way", ["exit", "close", "no worker"])
def test_a_dead_receiver_at_exit(run: Run, fault: str, way: str) -> None:
    """Scenario 9: the program ends within close_timeout, and what was not delivered is said."""
    receiver = Receiver(hang)
    if fault == "refuses":
        receiver.close()
    out = run(
        LOG_TO_STDOUT
        + """
tracer = Tracer("test", OtlpExporter(sys.argv[1], timeout=1000), batch_spans=10, close_timeout=0.6)
if sys.argv[2] == "no worker":
    spans = [tracer.start_span("open") for _ in range(30)]
else:
    make(tracer, 30)
    if sys.argv[2] == "close":
        tracer.close()
class Last:
    def __del__(self):
        print(tracer.stats().failed)
last = Last()
""",
        receiver.url,
        way,
    )
    receiver.close()
    expected = {"hangs": "it did not answer in time", "refuses": "nobody listens there"}[fault]
    said, failed = out.splitlines()
    assert said.startswith(
        f"OtlpExporter could not deliver 10 spans: ExportError: {receiver.url}/v1/traces: {expected}"
    )
    assert failed == "30"


def test_ctrl_c_while_a_receiver_hangs() -> None:
    """Scenario 9: waiting for it is interrupted as any Python code is."""
    with Receiver(hang) as receiver:
        process = start(
            """
            tracer = Tracer("test", OtlpExporter(sys.argv[1], timeout=1000), close_timeout=0)
            make(tracer, 1)
            try:
                print("waiting", flush=True)
                tracer.close(1000)
            except KeyboardInterrupt:
                print("interrupted", flush=True)
            """,
            receiver.url,
        )
        assert process.stdout is not None
        assert process.stdout.readline() == "waiting\n"
        wait_until_asleep(process.pid)
        process.send_signal(signal.SIGINT)
        assert judge(process) == "interrupted\n"


def test_1000_exporters_leave_nothing(run: Run) -> None:
    """Scenario 4: neither sockets nor threads nor memory."""
    with Receiver() as receiver:
        run(
            """
            import tracemalloc
            def once():
                with Tracer("test", OtlpExporter(sys.argv[1])) as tracer:
                    make(tracer, 1)
                    assert tracer.close(20)
            for _ in range(20): once()
            gc.collect()
            files, threads = len(os.listdir("/proc/self/fd")), len(os.listdir("/proc/self/task"))
            tracemalloc.start()
            once()
            gc.collect()
            before = tracemalloc.get_traced_memory()[0]
            for _ in range(500): once()
            gc.collect()
            assert tracemalloc.get_traced_memory()[0] - before < 50_000
            assert len(os.listdir("/proc/self/fd")) <= files
            assert len(os.listdir("/proc/self/task")) <= threads
            """,
            receiver.url,
        )


def test_a_socket_class_of_another_library(monkeypatch: pytest.MonkeyPatch) -> None:
    """Programs put PySocks' sockets in the place of Python's to send everything through Tor: spans go there too."""
    import socket

    import socks  # type: ignore[import-untyped]

    connected: list[object] = []

    class Proxied(socks.socksocket):  # type: ignore[misc]
        def connect_ex(self, address: Any) -> Any:
            connected.append(address)
            return super().connect_ex(address)

    with Receiver() as receiver:
        monkeypatch.setattr(socket, "socket", Proxied)
        assert deliver(receiver)[1]
        assert connected == [("127.0.0.1", receiver.port)]
        monkeypatch.undo()


def test_the_worker_threads_of_many_tracers_share_a_receiver() -> None:
    """32 threads and 8 tracers at once: everything arrives, once."""
    with Receiver() as receiver:
        exporter = OtlpExporter(receiver.url)
        tracers = [Tracer(f"{n}", exporter, batch_spans=20) for n in range(8)]

        def work(tracer: Tracer) -> None:
            for _ in range(100):
                tracer.start_span("span").end()

        threads = [threading.Thread(target=work, args=(tracer,)) for tracer in tracers * 4]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert all(tracer.close(SECONDS) for tracer in tracers)
        found = receiver.records
        assert len({record.span_id for record in found}) == len(found) == 3200
