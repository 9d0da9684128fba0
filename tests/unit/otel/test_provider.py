"""The tracer provider: from arguments, from the environment, put in its place; processors, samplers, ids."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
from opentelemetry import trace as api
from opentelemetry.sdk.resources import Resource as SdkResource
from opentelemetry.sdk.trace import SpanLimits as SdkLimits
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF, ALWAYS_ON, Decision, ParentBased, SamplingResult
from opentelemetry.sdk.util.instrumentation import InstrumentationScope as SdkScope
from opentelemetry.trace import NonRecordingSpan, SpanContext, TraceFlags, TraceState

from clew import ConfigurationError, MemoryExporter, NeverSample, ProbabilitySample, Tracer
from clew.otel import InstrumentationScope, TracerProvider

if TYPE_CHECKING:
    from pathlib import Path

SERVICE = {"service.name": "shop", "service.version": "1.2"}


def made(**arguments: Any) -> TracerProvider:
    """A provider that ends with its test."""
    return TracerProvider(shutdown_on_exit=False, **arguments)


def one_span(provider: TracerProvider, name: str = "call") -> Any:
    span = provider.get_tracer("library").start_span(name)
    span.end()
    return span


# --- what it is made of ----------------------------------------------------------------------------------------------


def test_an_exporter_of_clews() -> None:
    """What ends goes to it, with the resource that was given."""
    memory = MemoryExporter()
    provider = made(exporter=memory, resource=SdkResource(SERVICE))
    one_span(provider)
    assert provider.force_flush()
    (record,) = memory.records
    assert record.resource.attributes["service.version"] == "1.2"
    assert record.resource.attributes["telemetry.sdk.name"] == "clew"
    assert provider.resource.attributes["service.name"] == "shop"
    provider.shutdown()
    assert provider.tracer.stats().exported == 1


def test_limits_of_the_sdk() -> None:
    """The SDK's SpanLimits, where UNSET is no limit."""
    limits = SdkLimits(max_span_attributes=SdkLimits.UNSET, max_events=2, max_span_attribute_length=3)
    span: Any = made(span_limits=limits).get_tracer("library").start_span("call")
    for number in range(200):
        span.set_attribute(f"key {number}", "abcdef")
        span.add_event("event", {"key": "abcdef"})
    assert (len(span.attributes), span.attributes["key 0"]) == (200, "abc")
    assert (len(span.events), span.dropped_events, span.events[0].attributes) == (2, 198, {"key": "abcdef"})


def test_a_tracer_or_its_parts() -> None:
    """Both together contradict each other, and are refused in a sentence."""
    with pytest.raises(ConfigurationError, match="not both"):
        made(tracer=Tracer("shop"), sampler=NeverSample())


def test_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Service, sampler, and being disabled, where no argument says otherwise."""
    monkeypatch.setenv("OTEL_SERVICE_NAME", "from the environment")
    monkeypatch.setenv("OTEL_TRACES_SAMPLER", "always_off")
    provider = made()
    assert provider.resource.attributes["service.name"] == "from the environment"
    assert not one_span(provider).get_span_context().trace_flags.sampled
    monkeypatch.setenv("OTEL_SDK_DISABLED", "true")
    assert isinstance(made().get_tracer("library"), api.NoOpTracer)


def test_detectors(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    """What OTEL_EXPERIMENTAL_RESOURCE_DETECTORS names is asked; what is not there is told of."""
    monkeypatch.setenv("OTEL_EXPERIMENTAL_RESOURCE_DETECTORS", "otel,process,nonsense")
    assert made().resource.attributes["process.pid"] == os.getpid()
    assert [record.message for record in caplog.records] == ["There is no resource detector 'nonsense'."]


def test_ids_of_ones_own_making() -> None:
    """An id generator makes the trace's id at its root, and every span's; the flag of random ids is its to claim."""
    ids = SimpleNamespace(generate_trace_id=lambda: 2**127 + 5, generate_span_id=iter(range(7, 99)).__next__)
    tracer = made(id_generator=ids).get_tracer("library")
    with tracer.start_as_current_span("a") as a, tracer.start_as_current_span("b") as b:
        assert [span.get_span_context().span_id for span in (a, b)] == [7, 8]
        assert {span.get_span_context().trace_id for span in (a, b)} == {2**127 + 5}
        assert {span.get_span_context().trace_flags for span in (a, b)} == {1}


# --- tracers ---------------------------------------------------------------------------------------------------------


def test_tracers_of_libraries(caplog: pytest.LogCaptureFixture) -> None:
    """One for each name, version, schema and attributes; their spans say whose they are, in batches of their own."""
    memory = MemoryExporter()
    provider = made(exporter=memory)
    scopes: list[tuple[Any, ...]] = [("a",), ("a", "1"), ("a", "1", "https://x/1"), ("a", "1", "https://x/1", {"k": 1})]
    tracers: list[Any] = [provider.get_tracer(*scope) for scope in scopes]
    assert [provider.get_tracer(*scope) for scope in scopes] == tracers
    assert len(set(tracers)) == 4
    assert all(isinstance(tracer, api.Tracer) for tracer in tracers)
    for tracer in (*tracers, *tracers):
        tracer.start_span("call").end()
    assert provider.force_flush()
    found = [(record.scope.name, record.scope.version, record.scope.schema_url) for record in memory.records]
    assert sorted(set(found)) == [("a", "", ""), ("a", "1", ""), ("a", "1", "https://x/1")]
    assert len({(*each.scope[:2], each.scope.schema_url, *each.scope.attributes) for each in memory.records}) == 4
    assert tracers[3].instrumentation_scope == SdkScope(*scopes[3])
    assert json.loads(InstrumentationScope("a", "1").to_json())["version"] == "1"
    provider.get_tracer("")
    assert "missing module name" in caplog.text


# --- processors ------------------------------------------------------------------------------------------------------


class Listener:
    """A processor that tells what it was told."""

    def __init__(self, heard: list[Any], name: str) -> None:
        self.heard, self.name = heard, name

    def on_start(self, span: Any, parent_context: Any = None) -> None:
        self.heard.append((self.name, "start", span.name, parent_context))
        span.set_attribute(self.name, "was here")

    def _on_ending(self, span: Any) -> None:
        self.heard.append((self.name, "ending", span.name, span.is_recording()))

    def on_end(self, span: Any) -> None:
        self.heard.append((self.name, "end", span.name, dict(span.attributes)))

    def shutdown(self) -> None:
        self.heard.append((self.name, "shutdown"))

    def force_flush(self, timeout_millis: int = 30000) -> bool:
        self.heard.append((self.name, "flush", timeout_millis <= 30000))
        return True


def test_processors_are_told() -> None:
    """Of the start with the context that was given, of the end, of flush and shutdown, in the order they were added."""
    heard: list[Any] = []
    provider = made()
    provider.add_span_processor(Listener(heard, "a"))
    context = api.set_span_in_context(NonRecordingSpan(SpanContext(1, 2, True, TraceFlags(1))))
    span = provider.get_tracer("library").start_span("call", context)
    provider.add_span_processor(Listener(heard, "b"))
    span.end()
    assert heard == [
        ("a", "start", "call", context),
        ("a", "ending", "call", False),
        ("b", "ending", "call", False),
        ("a", "end", "call", {"a": "was here"}),
        ("b", "end", "call", {"a": "was here"}),
    ]
    assert heard[0][3] is context
    heard.clear()
    assert provider.force_flush()
    provider.shutdown()
    assert heard == [("a", "flush", True), ("b", "flush", True), ("a", "shutdown"), ("b", "shutdown")]


def test_a_processor_that_fails(caplog: pytest.LogCaptureFixture) -> None:
    """The program and the other processors do not notice; the log and the ledger do."""

    class Bad:
        def __getattr__(self, name: str) -> Any:
            raise RuntimeError(name)

    heard: list[Any] = []
    provider = made()
    provider.add_span_processor(Bad())
    provider.add_span_processor(Listener(heard, "a"))
    one_span(provider)
    assert [each[1] for each in heard] == ["start", "ending", "end"]
    assert provider.tracer.stats().errors == 3
    assert len(caplog.records) == 3
    assert not provider.force_flush()
    provider.shutdown()
    assert heard[-1] == ("a", "shutdown")


@pytest.mark.parametrize("kind", [SimpleSpanProcessor, BatchSpanProcessor])
def test_processors_and_exporters_of_the_sdk(kind: Any) -> None:
    """They take clew's spans as their own."""
    exporter = InMemorySpanExporter()
    provider = made(resource=SdkResource(SERVICE))
    provider.add_span_processor(kind(exporter))
    one_span(provider)
    assert provider.force_flush()
    span: Any
    (span,) = exporter.get_finished_spans()
    assert (span.name, span.resource, span.instrumentation_scope.name) == ("call", provider.resource, "library")
    provider.shutdown()


def test_the_first_processor_may_hold_the_others() -> None:
    """active_span_processor: it is told of everything, and given what is added."""

    class Many(Listener):
        def add_span_processor(self, processor: Any) -> None:
            self.heard.append((self.name, "given", processor))

    heard: list[Any] = []
    provider = made(active_span_processor=Many(heard, "many"))
    provider.add_span_processor("another")
    one_span(provider)
    assert [each[:2] for each in heard] == [
        ("many", "given"), ("many", "start"), ("many", "ending"), ("many", "end"),
    ]  # fmt: skip


# --- samplers --------------------------------------------------------------------------------------------------------


def test_samplers_of_the_sdk() -> None:
    """They are asked about every span, with what the span was given."""
    asked: list[Any] = []

    class Asked:
        def should_sample(self, *arguments: Any) -> SamplingResult:
            asked.append(arguments)
            return SamplingResult(Decision.RECORD_AND_SAMPLE, {"decided": True}, TraceState([("a", "b")]))

        def get_description(self) -> str:
            return "Asked"

    provider = made(sampler=Asked())
    tracer = provider.get_tracer("library")
    with tracer.start_as_current_span("a", attributes={"given": 1}) as a:
        child: Any = tracer.start_span("b", kind=api.SpanKind.CLIENT)
    assert (child.attributes, child.context.trace_state) == ({"decided": True}, {"a": "b"})
    assert [each[2] for each in asked] == ["a", "b"]
    assert asked[0][1] == a.get_span_context().trace_id
    assert asked[0][4] == {"given": 1}
    assert asked[1][3] is api.SpanKind.CLIENT
    assert provider.sampler.get_description() == "Asked"


def test_recorded_and_not_sampled() -> None:
    """RECORD_ONLY: processors see it, no exporter does, and the ledger balances."""
    memory, heard = MemoryExporter(), list[Any]()

    class RecordOnly:
        def should_sample(self, *_: Any) -> SamplingResult:
            return SamplingResult(Decision.RECORD_ONLY)

        def get_description(self) -> str:
            return "RecordOnly"

    provider = made(sampler=RecordOnly(), exporter=memory)
    provider.add_span_processor(Listener(heard, "a"))
    span = provider.get_tracer("library").start_span("call")
    assert span.is_recording()
    assert not span.get_span_context().trace_flags.sampled
    assert not isinstance(span, NonRecordingSpan)
    span.end()
    assert [each[1] for each in heard] == ["start", "ending", "end"]
    assert provider.force_flush()
    stats = provider.tracer.stats()
    assert (stats.started, stats.ended, stats.not_sampled, memory.records) == (0, 0, 1, [])


@pytest.mark.parametrize(
    ("sampler", "sampled"),
    [(ALWAYS_ON, True), (ALWAYS_OFF, False), (ParentBased(ALWAYS_ON), True), (NeverSample(), False)],
)
def test_decisions(sampler: Any, sampled: bool) -> None:
    """Of the SDK's samplers and of clew's."""
    assert one_span(made(sampler=sampler)).get_span_context().trace_flags.sampled is sampled


def test_a_sampler_that_fails(caplog: pytest.LogCaptureFixture) -> None:
    """The span is not sampled; the program goes on."""

    class Bad:
        def should_sample(self, *_: Any) -> Any:
            raise ValueError

        def get_description(self) -> str:
            return "Bad"

    provider = made(sampler=Bad())
    assert not one_span(provider).is_recording()
    assert provider.tracer.stats().errors == 1
    assert "should_sample" in caplog.text


def test_clews_samplers_describe_themselves() -> None:
    """As they are written in Python."""
    assert made(sampler=ProbabilitySample(0.25)).sampler.get_description() == "ProbabilitySample(0.25)"


# --- in its place ----------------------------------------------------------------------------------------------------


def run(program: str, tmp_path: Path, **environ: str) -> subprocess.CompletedProcess[str]:
    """A program of its own: a process has one provider."""
    return subprocess.run(
        [sys.executable, "-c", program],
        cwd=tmp_path,
        env={**os.environ, **environ},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


INSTALL = """
import clew, clew.otel
from opentelemetry import trace
early = trace.get_tracer("early")  # before there is a provider
clew.otel.install(clew.Tracer("shop", clew.FileExporter("traces.jsonl")))
with early.start_as_current_span("a"), trace.get_tracer("late").start_as_current_span("b"):
    pass
try:
    clew.otel.install(clew.Tracer("other"))
except clew.ConfigurationError as error:
    print(error)
"""


def test_install(tmp_path: Path) -> None:
    """Every library's spans are clew's, also of tracers that were taken before; what is not flushed is at the end."""
    done = run(INSTALL, tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert "install clew before it" in done.stdout
    spans = [
        span["name"]
        for line in (tmp_path / "traces.jsonl").read_text().splitlines()
        for resource in json.loads(line)["resourceSpans"]
        for scope in resource["scopeSpans"]
        for span in scope["spans"]
    ]
    assert sorted(spans) == ["a", "b"]


BY_NAME = """
from opentelemetry import trace
with trace.get_tracer("library").start_as_current_span("found by name"):
    pass
"""


def test_found_by_its_name(tmp_path: Path) -> None:
    """OTEL_PYTHON_TRACER_PROVIDER=clew, which is also what `opentelemetry-instrument --tracer_provider clew` sets."""
    done = run(BY_NAME, tmp_path, OTEL_PYTHON_TRACER_PROVIDER="clew", OTEL_TRACES_EXPORTER="console")
    assert (done.returncode, done.stderr) == (0, "")
    assert "found by name" in done.stdout


AT_EXIT = """
import clew
from clew.otel import TracerProvider

class Told:
    def on_start(self, span, parent_context=None): pass
    def on_end(self, span): print("ended", span.name)
    def shutdown(self): print("shutdown")
    def force_flush(self, timeout_millis=30000): return True

provider = TracerProvider({arguments})
provider.add_span_processor(Told())
provider.get_tracer("library").start_span("call").end()
"""


@pytest.mark.parametrize(
    ("arguments", "told"), [("", ["ended call", "shutdown"]), ("shutdown_on_exit=False", ["ended call"])]
)
def test_at_exit(tmp_path: Path, arguments: str, told: list[str]) -> None:
    """Processors are shut down when the program ends, unless it wants to do that itself."""
    done = run(AT_EXIT.replace("{arguments}", arguments), tmp_path)
    assert (done.returncode, done.stderr, done.stdout.splitlines()) == (0, "", told)


FORKED = """
import os, sys, clew
from clew.otel import TracerProvider

class Pid(clew.MemoryExporter):
    def export(self, batch):
        print(batch.resource.attributes["process.pid"] == os.getpid(), flush=True)

provider = TracerProvider(exporter=Pid())
pid = os.fork()
if not pid:
    span = provider.get_tracer("library").start_span("call")
    assert span.resource.attributes["process.pid"] == os.getpid()
    span.end()
    provider.shutdown()
    os._exit(0)
print(os.waitpid(pid, 0)[1])
"""


def test_a_forked_child_says_who_it_is(tmp_path: Path) -> None:
    """Where the process's detector was asked, a child's spans have the child's process id."""
    done = run(FORKED, tmp_path, OTEL_EXPERIMENTAL_RESOURCE_DETECTORS="process")
    assert (done.returncode, done.stderr, done.stdout.split()) == (0, "", ["True", "0"])


def test_what_libraries_look_for() -> None:
    """Some look into what is private of the SDK, whether their processor is there already."""
    provider: Any = made()
    listener = Listener([], "a")
    provider._active_span_processor.add_span_processor(listener)
    assert provider._active_span_processor._span_processors == (listener,)
    tracer: Any = provider.get_tracer("library", "1")
    assert tracer._instrumentation_scope is tracer.instrumentation_scope
    assert (tracer.instrumentation_info.name, tracer.instrumentation_info.version) == ("library", "1")
    with pytest.warns(DeprecationWarning, match="instrumentation_scope"):
        assert tracer.start_span("call").instrumentation_info == tracer.instrumentation_info
