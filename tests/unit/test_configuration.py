"""The process's tracer: what the environment says, and what it may not."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from clew import (
    Batch,
    ConfigurationError,
    FileExporter,
    MemoryExporter,
    MultiExporter,
    NoopExporter,
    SpanContext,
    SpanLimits,
    StdoutExporter,
    configuration,
    configure,
    extract,
    flush_on_sigterm,
    get_tracer,
    inject,
)
from clew.exporters.otlp import OtlpExporter
from clew.otlp import decode_json
from clew.pipeline import time_left
from clew.propagation import set_propagators

if TYPE_CHECKING:
    from collections.abc import Iterator

    from clew import Tracer

REMOTE = {flag: SpanContext("ab" * 16, "cd" * 8, trace_flags=flag, is_remote=True) for flag in (0, 1)}


@pytest.fixture(autouse=True)
def process() -> Iterator[None]:
    """A process without a tracer."""
    configuration._tracer = None
    yield
    set_propagators(("tracecontext", "baggage"))
    if configuration._tracer is not None:
        configuration._tracer.close()
    configuration._tracer = None


def exporter_of(tracer: Tracer) -> Any:
    return tracer._pipeline.exporter


def test_what_the_environment_says(tmp_path: Path) -> None:
    """Name, resource, exporter, batches; an argument comes before a variable, and empty is unset."""
    tracer = configure(
        resource={"b": "argument"},
        environ={
            "OTEL_SERVICE_NAME": " shop ",
            "OTEL_RESOURCE_ATTRIBUTES": "service.name=other,a=1%2C2,b=variable,",
            "OTEL_TRACES_EXPORTER": "file",
            "CLEW_TRACES_FILE": str(tmp_path / "t.jsonl"),
            "OTEL_TRACES_SAMPLER": "",
            "OTEL_BSP_SCHEDULE_DELAY": "250",
        },
    )
    assert get_tracer() is tracer
    attributes = tracer.resource.attributes
    assert (attributes["service.name"], attributes["a"], attributes["b"]) == ("shop", "1,2", "argument")
    assert isinstance(exporter_of(tracer), FileExporter)
    assert tracer._pipeline._batch_delay == 0.25
    with tracer.start_span("x"):
        pass
    assert tracer.flush()
    assert [record.name for record in decode_json((tmp_path / "t.jsonl").read_bytes())] == ["x"]


def test_names() -> None:
    """The service's name: argument, variable, resource, the program."""
    resource = {"OTEL_TRACES_EXPORTER": "none", "OTEL_RESOURCE_ATTRIBUTES": "service.name=third"}
    for arguments, environ, name in (
        (("first",), {"OTEL_SERVICE_NAME": "second", **resource}, "first"),
        ((), {"OTEL_SERVICE_NAME": "second", **resource}, "second"),
        ((), resource, "third"),
    ):
        configuration._tracer = None
        assert configure(*arguments, environ=environ).resource.service_name == name
    configuration._tracer = None
    name = configure(environ={"OTEL_TRACES_EXPORTER": "none"}).resource.service_name
    assert name.startswith("unknown_service:")


@pytest.mark.parametrize(
    ("word", "kind"),
    [("none", NoopExporter), ("console", StdoutExporter), ("none,console", MultiExporter)],
)
def test_exporters(word: str, kind: type) -> None:
    """Each word is an exporter, several are all of them."""
    assert isinstance(exporter_of(configure(environ={"OTEL_TRACES_EXPORTER": word})), kind)


@pytest.mark.parametrize(
    ("sampler", "root", "sampled", "unsampled"),
    [
        ("always_on", True, True, True),
        ("always_off", False, False, False),
        ("traceidratio", False, False, False),
        ("parentbased_always_on", True, True, False),
        ("parentbased_always_off", False, True, False),
        ("parentbased_traceidratio", False, True, False),
    ],
)
def test_samplers(sampler: str, root: bool, sampled: bool, unsampled: bool) -> None:
    """A parent's decision is kept where the sampler is based on it, and only there."""
    tracer = configure(
        exporter=MemoryExporter(), environ={"OTEL_TRACES_SAMPLER": sampler, "OTEL_TRACES_SAMPLER_ARG": "0"}
    )
    found = [tracer.start_span("x", parent=parent).is_recording for parent in (None, REMOTE[1], REMOTE[0])]
    assert found == [root, sampled, unsampled]


def test_disabled() -> None:
    """Nothing is recorded, and nothing is opened."""
    tracer = configure(environ={"OTEL_SDK_DISABLED": "true", "OTEL_TRACES_EXPORTER": "file"})
    assert not tracer.start_span("x").is_recording
    assert isinstance(exporter_of(tracer), NoopExporter)


@pytest.mark.parametrize(
    "environ",
    [
        {"OTEL_TRACES_EXPORTER": "zipkin"},
        {"OTEL_TRACES_EXPORTER": "none,"},
        {"OTEL_TRACES_SAMPLER": "sometimes"},
        {"OTEL_TRACES_SAMPLER": "parentbased_parentbased_always_on"},
        {"OTEL_TRACES_SAMPLER": "traceidratio", "OTEL_TRACES_SAMPLER_ARG": "half"},
        {"OTEL_TRACES_SAMPLER": "traceidratio", "OTEL_TRACES_SAMPLER_ARG": "1.5"},
        {"OTEL_TRACES_SAMPLER": "traceidratio", "OTEL_TRACES_SAMPLER_ARG": "nan"},
        {"OTEL_RESOURCE_ATTRIBUTES": "a"},
        {"OTEL_RESOURCE_ATTRIBUTES": "=b"},
        {"OTEL_SDK_DISABLED": "yes"},
        {"OTEL_BSP_SCHEDULE_DELAY": "5s"},
        {"OTEL_BSP_SCHEDULE_DELAY": "0"},
        {"OTEL_BSP_MAX_EXPORT_BATCH_SIZE": "-1"},
        {"OTEL_BSP_MAX_EXPORT_BATCH_SIZE": "9" * 50},
        {"OTEL_BSP_MAX_EXPORT_BATCH_SIZE": "000000000001999999999"},
        {"OTEL_BSP_MAX_EXPORT_BATCH_SIZE": "000000000001" + "9" * 5000},
        {"OTEL_BSP_MAX_QUEUE_SIZE": "0"},
        {"OTEL_BSP_MAX_QUEUE_SIZE": "2048 spans"},
        {"OTEL_BSP_EXPORT_TIMEOUT": "-1"},
        {"OTEL_PROPAGATORS": "jaeger"},
        {"OTEL_PROPAGATORS": "tracecontext,,baggage"},
        {"OTEL_TRACES_EXPORTER": "otlp", "OTEL_EXPORTER_OTLP_TIMEOUT": "soon"},
        {"OTEL_SPAN_LINK_COUNT_LIMIT": "-1"},
        {"OTEL_ATTRIBUTE_VALUE_LENGTH_LIMIT": "long"},
    ],
)
def test_wrong_values(environ: dict[str, str]) -> None:
    """A sentence that names the variable; the process has no tracer then."""
    with pytest.raises(ConfigurationError) as caught:
        configure(environ={"OTEL_TRACES_EXPORTER": "none", **environ})
    assert list(environ)[-1] in str(caught.value)
    assert configuration._tracer is None


def test_names_of_choices_are_in_any_case() -> None:
    """As the specification has it for all of them."""
    tracer = configure(
        environ={
            "OTEL_TRACES_EXPORTER": "None,CONSOLE,console",
            "OTEL_TRACES_SAMPLER": "Always_Off",
            "OTEL_PROPAGATORS": "B3",
        }
    )
    assert isinstance(exporter_of(tracer), MultiExporter)
    assert len(exporter_of(tracer).exporters) == 2
    assert not tracer.start_span("x").is_recording
    headers: dict[str, str] = {}
    inject(headers, REMOTE[1])
    assert list(headers) == ["b3"]


def test_otlp_is_as_the_given_variables_say() -> None:
    """Those given to configure(), not those of the process."""
    tracer = configure(environ={"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:9/base"})
    assert isinstance(exporter_of(tracer), OtlpExporter)
    assert "http://127.0.0.1:9/base/v1/traces" in repr(exporter_of(tracer))


@pytest.mark.parametrize(
    ("value", "names"),
    [
        ("", {"traceparent", "baggage"}),
        ("tracecontext", {"traceparent"}),
        ("baggage", {"baggage"}),
        ("baggage, tracecontext", {"traceparent", "baggage"}),
        ("none", set()),
        ("none,tracecontext", set()),
        ("b3", {"b3"}),
        ("tracecontext,b3multi", {"traceparent", "x-b3-traceid", "x-b3-spanid", "x-b3-sampled"}),
    ],
)
def test_propagators(value: str, names: set[str]) -> None:
    """Which headers are written, and read; also where nothing is recorded."""
    configure(environ={"OTEL_PROPAGATORS": value, "OTEL_SDK_DISABLED": "true"})
    context = REMOTE[1]._replace(baggage={"a": "1"})
    headers: dict[str, str] = {}
    inject(headers, context)
    assert set(headers) == names
    all_headers = {
        "traceparent": f"00-{context.trace_id}-{context.span_id}-01",
        "baggage": "a=1",
    }
    found = extract(all_headers)
    assert (found.is_valid, bool(found.baggage)) == ("traceparent" in names, "baggage" in names)


def test_propagators_by_argument() -> None:
    """Before the variable; with a wrong one there is no tracer."""
    with pytest.raises(ConfigurationError, match="'xray'"):
        configure(propagators=["xray"], environ={"OTEL_TRACES_EXPORTER": "none"})
    configure(propagators=["b3"], environ={"OTEL_TRACES_EXPORTER": "none", "OTEL_PROPAGATORS": "none"})
    headers: dict[str, str] = {}
    inject(headers, REMOTE[1])
    assert list(headers) == ["b3"]


def test_the_queue_and_the_time_of_an_export() -> None:
    """OTEL_BSP_MAX_QUEUE_SIZE counts spans, and keeps batches small; OTEL_BSP_EXPORT_TIMEOUT is told exporters."""
    left: list[float] = []

    class Asking(MemoryExporter):
        def export(self, batch: Batch) -> None:
            left.append(time_left())
            super().export(batch)

    environ = {
        "OTEL_BSP_MAX_QUEUE_SIZE": "3",
        "OTEL_BSP_EXPORT_TIMEOUT": "7000",
        "OTEL_BSP_SCHEDULE_DELAY": "86400000",
    }
    tracer = configure(exporter=Asking(), environ=environ)
    tracer.start_span("x").end()
    assert tracer.flush()
    assert 0 < left[0] <= 7
    assert tracer._pipeline._batch_delay == 86400
    configuration._tracer = None
    tracer.close()
    stuck = threading.Event()

    class Stuck(MemoryExporter):
        def export(self, batch: Batch) -> None:
            assert stuck.wait(60)

    tracer = configure(exporter=Stuck(), environ=environ)
    for _ in range(5):
        tracer.start_span("x").end()
    assert tracer.stats().dropped["queue_full"] == 2
    stuck.set()
    assert not tracer.flush(60)  # two were lost
    assert tracer.stats().exported == 3
    configuration._tracer = None
    tracer.close()
    tracer = configure(exporter=Asking(), environ={"OTEL_BSP_EXPORT_TIMEOUT": "0"})
    tracer.start_span("x").end()
    assert tracer.flush()
    assert left[-1] == float("inf")


def test_limits() -> None:
    """A particular limit comes before the general one, an argument before both; what is not said stays as it is."""
    environ = {
        "OTEL_TRACES_EXPORTER": "none",
        "OTEL_ATTRIBUTE_COUNT_LIMIT": "7",
        "OTEL_EVENT_ATTRIBUTE_COUNT_LIMIT": "0",
        "OTEL_SPAN_LINK_COUNT_LIMIT": "1",
        "OTEL_ATTRIBUTE_VALUE_LENGTH_LIMIT": "4",
        "OTEL_SPAN_ATTRIBUTE_VALUE_LENGTH_LIMIT": "2",
    }
    attributes = {str(i): "value" for i in range(10)}
    span = configure(environ=environ).start_span("x", attributes=attributes)
    span.add_event("y", {"a": "value"})
    for _ in range(2):
        span.add_link(REMOTE[1], attributes)
    assert set(span.attributes.values()) == {"va"}
    assert len(span.attributes) == 7
    (event,), (link,) = span.events, span.links
    assert (event.attributes, event.dropped_attributes) == ({}, 1)
    assert (set(link.attributes.values()), link.dropped_attributes) == ({"valu"}, 3)
    configuration._tracer = None
    span = configure(environ=environ, limits=SpanLimits(links=2)).start_span("x", attributes=attributes)
    assert set(span.attributes.values()) == {"value"}
    assert len(span.attributes) == 10


def test_the_guide_has_every_variable() -> None:
    """Of clew's own table, and of OTLP."""
    page = (Path(__file__).parents[2] / "docs/guide/configuration.md").read_text()
    otlp = ("PROTOCOL", "ENDPOINT", "HEADERS", "TIMEOUT", "COMPRESSION", "INSECURE", "CERTIFICATE", "CLIENT_KEY")
    for name in (*configuration.VARIABLES, *(f"OTEL_EXPORTER_OTLP_{word}" for word in otlp)):
        assert f"`{name}`" in page, name


def test_once() -> None:
    """A second configure() would leave spans in two places: it is refused."""
    configure(environ={"OTEL_TRACES_EXPORTER": "none"})
    with pytest.raises(ConfigurationError, match="already"):
        configure(environ={})


def test_a_signal_handler_on_another_thread() -> None:
    """Python cannot, and says so in its own words; ours say what to do."""
    caught: list[BaseException] = []

    def call() -> None:
        try:
            flush_on_sigterm()
        except ConfigurationError as error:
            caught.append(error)

    thread = threading.Thread(target=call)
    thread.start()
    thread.join()
    assert "main thread" in str(caught[0])


PROGRAM = """
import os, signal, sys, clew
tracer = clew.configure("p", clew.FileExporter(sys.argv[1]))
{handler}
clew.flush_on_sigterm()
tracer.start_span("ended").end()
with tracer.start_span("open"):
    signal.raise_signal(signal.SIGTERM)  # to this thread: a signal to the process may come later
    tracer.start_span("after").end()
{rest}
"""


def sigterm(tmp_path: Path, handler: str = "", rest: str = "") -> tuple[int, dict[str, Any]]:
    """Run the program; its exit status, and the spans that arrived."""
    path = tmp_path / "t.jsonl"
    code = textwrap.dedent(PROGRAM).format(handler=handler, rest=rest)
    done = subprocess.run([sys.executable, "-c", code, str(path)], capture_output=True, text=True, check=False)
    assert done.stderr == ""
    records = [record for line in path.read_bytes().splitlines() for record in decode_json(line)]
    return done.returncode, {record.name: record.attributes for record in records}


def test_sigterm(tmp_path: Path) -> None:
    """Scenario 7: what has ended arrives, what is open is unfinished, and the signal ends the process as ever."""
    status, spans = sigterm(tmp_path)
    assert status == -signal.SIGTERM
    assert set(spans) == {"ended", "open"}
    assert spans["open"]["clew.unfinished"] is True


def test_sigterm_with_a_handler(tmp_path: Path) -> None:
    """The program's own handler is called afterwards; spans that it makes arrive too, its status is the process's."""
    handler = "signal.signal(signal.SIGTERM, lambda *_: sys.exit(7))"
    status, spans = sigterm(tmp_path, handler)
    assert status == 7
    assert set(spans) == {"ended", "open"}
    assert "clew.unfinished" not in spans["open"]
    handler = "signal.signal(signal.SIGTERM, lambda *_: None)"
    status, spans = sigterm(tmp_path / "..", handler)
    assert status == 0
    assert set(spans) >= {"ended", "after", "open"}
    assert os.environ.get("OTEL_SERVICE_NAME") is None


def test_sigterm_that_is_ignored(tmp_path: Path) -> None:
    """It stays ignored."""
    status, spans = sigterm(
        tmp_path, "signal.signal(signal.SIGTERM, signal.SIG_IGN)", "tracer.start_span('last').end()"
    )
    assert status == 0
    assert set(spans) == {"ended", "open", "after", "last"}
