"""A tracer without code that knows where its spans go: from the environment, once for the process.

The variables are OpenTelemetry's, with OpenTelemetry's meaning; `CLEW_TRACES_FILE` is ours. Arguments come before
variables, and a wrong value is an error with the variable's name, before the program has done anything.

Source: the OpenTelemetry specification, "Environment Variable Specification" and "SDK Configuration".
"""

from __future__ import annotations

import os
import signal
import sys
import threading
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

from clew.errors import ConfigurationError
from clew.exporters.file import FileExporter
from clew.exporters.multi import MultiExporter
from clew.exporters.noop import NoopExporter
from clew.exporters.stdout import StdoutExporter
from clew.model import SpanLimits
from clew.pipeline import close_all, flush_all
from clew.propagation import PROPAGATORS, set_propagators
from clew.samplers import AlwaysSample, NeverSample, ParentSample, ProbabilitySample
from clew.tracer import Tracer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from types import FrameType

    from clew.keeping import FlightRecorder
    from clew.model import AttributeValue
    from clew.protocols import Exporter, Sampler

__all__ = ["VARIABLES", "configure", "flush_on_sigterm", "get_tracer", "make_tracer"]

_DEFAULT_FILE = "traces.jsonl"

# What is read here; those of OTLP are read by its exporter. For `--help` and the guide.
VARIABLES: dict[str, str] = {
    "OTEL_SDK_DISABLED": '"true": no span is recorded',
    "OTEL_SERVICE_NAME": "the service's name",
    "OTEL_RESOURCE_ATTRIBUTES": "more about it: key=value,key=value, percent-encoded",
    "OTEL_TRACES_EXPORTER": "otlp (the default), file, console, none; several with commas",
    "CLEW_TRACES_FILE": f"where the exporter `file` writes (default: {_DEFAULT_FILE})",
    "OTEL_TRACES_SAMPLER": "always_on, always_off, traceidratio, and each with parentbased_ before it",
    "OTEL_TRACES_SAMPLER_ARG": "the share for traceidratio, 0 to 1",
    "OTEL_PROPAGATORS": f"headers between processes: {', '.join(PROPAGATORS)}, none; several with commas",
    "OTEL_BSP_SCHEDULE_DELAY": "milliseconds after which a batch is exported that is not full",
    "OTEL_BSP_EXPORT_TIMEOUT": "milliseconds that the export of a batch may take",
    "OTEL_BSP_MAX_QUEUE_SIZE": "spans that may wait; by default 32 MiB of them",
    "OTEL_BSP_MAX_EXPORT_BATCH_SIZE": "spans of one batch, at the most",
    "OTEL_ATTRIBUTE_COUNT_LIMIT": "attributes of a span, an event or a link, at the most",
    "OTEL_SPAN_ATTRIBUTE_COUNT_LIMIT": "of a span",
    "OTEL_EVENT_ATTRIBUTE_COUNT_LIMIT": "of an event",
    "OTEL_LINK_ATTRIBUTE_COUNT_LIMIT": "of a link",
    "OTEL_SPAN_EVENT_COUNT_LIMIT": "events of a span, at the most",
    "OTEL_SPAN_LINK_COUNT_LIMIT": "links of a span, at the most",
    "OTEL_ATTRIBUTE_VALUE_LENGTH_LIMIT": "characters of an attribute's value, at the most; any number by default",
    "OTEL_SPAN_ATTRIBUTE_VALUE_LENGTH_LIMIT": "the same, of a span's own attributes",
}

_lock = threading.Lock()
_tracer: Tracer | None = None


def configure(
    service_name: str | None = None,
    exporter: Exporter | FlightRecorder | None = None,
    sampler: Sampler | None = None,
    *,
    resource: Mapping[str, AttributeValue] | None = None,
    propagators: Iterable[str] | None = None,
    environ: Mapping[str, str] | None = None,
    **options: Any,
) -> Tracer:
    """Make the process's tracer, which `get_tracer` gives from then on.

    Args:
        service_name: OTEL_SERVICE_NAME, or service.name of OTEL_RESOURCE_ATTRIBUTES, or the program's name by default.
        exporter: as OTEL_TRACES_EXPORTER says by default.
        sampler: as OTEL_TRACES_SAMPLER says by default.
        resource: added to OTEL_RESOURCE_ATTRIBUTES, and stronger.
        propagators: which headers go between processes (`clew.propagation.PROPAGATORS`), as OTEL_PROPAGATORS says by
            default.
        environ: the variables; those of this process by default.
        options: further arguments of `Tracer`.

    Raises: ConfigurationError: a value is wrong, or the process has a tracer already.
    Thread: any.
    """
    global _tracer  # noqa: PLW0603 - it is the process's
    with _lock:
        if _tracer is not None:
            raise ConfigurationError("this process has a tracer already: call configure() once, before get_tracer().")
        values = os.environ if environ is None else environ
        # First: a tracer that is made has opened its file.
        set_propagators(_propagators(values) if propagators is None else propagators)
        _tracer = make_tracer(values, service_name, exporter, sampler, resource, **options)
        return _tracer


def get_tracer() -> Tracer:
    """The process's tracer: the one that `configure` made, or one that it makes now.

    Raises: ConfigurationError: a variable of the environment is wrong.
    Thread: any.
    """
    global _tracer  # noqa: PLW0603 - it is the process's
    with _lock:
        if _tracer is None:
            set_propagators(_propagators(os.environ))
            _tracer = make_tracer(os.environ)
        return _tracer


def make_tracer(
    environ: Mapping[str, str],
    service_name: str | None = None,
    exporter: Exporter | FlightRecorder | None = None,
    sampler: Sampler | None = None,
    resource: Mapping[str, AttributeValue] | None = None,
    **options: Any,
) -> Tracer:
    """A tracer that is not the process's: what is not given is as the variables say.

    Args, Raises: as `configure`.
    """
    values = _set(environ)
    attributes: dict[str, AttributeValue] = {**_resource_attributes(values), **(resource or {})}
    named = attributes.pop("service.name", None)
    service_name = service_name or values.get("OTEL_SERVICE_NAME") or (named if isinstance(named, str) else None)
    if _is_true("OTEL_SDK_DISABLED", values):
        return Tracer(service_name or _program(), NoopExporter(), NeverSample(), resource=attributes, **options)
    delay = _number("OTEL_BSP_SCHEDULE_DELAY", values, 1, 86_400_000)
    if delay is not None:
        options.setdefault("batch_delay", delay / 1000)
    timeout = _number("OTEL_BSP_EXPORT_TIMEOUT", values, 0, 86_400_000)
    if timeout:  # 0 is no limit
        options.setdefault("export_timeout", timeout / 1000)
    spans = _number("OTEL_BSP_MAX_QUEUE_SIZE", values, 1, 1_000_000_000)
    if spans is not None:
        options.setdefault("max_queue_spans", spans)
    size = _number("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", values, 1, 1_000_000)
    if size is not None:
        options.setdefault("batch_spans", size)
    if options.get("limits") is None:
        options["limits"] = _limits(values)
    return Tracer(
        service_name or _program(),
        _exporter(values) if exporter is None else exporter,
        _sampler(values) if sampler is None else sampler,
        resource=attributes,
        **options,
    )


def _set(environ: Mapping[str, str]) -> dict[str, str]:
    """The variables without those that are empty, which count as unset."""
    return {name: value.strip() for name, value in environ.items() if value.strip()}


def _words(name: str, values: Mapping[str, str], default: str) -> list[str]:
    """A list of names, in any case, each once."""
    return list(dict.fromkeys(word.strip().lower() for word in values.get(name, default).split(",")))


def _program() -> str:
    """What the specification calls a service without a name."""
    name = os.path.basename(sys.argv[0]) if sys.argv and sys.argv[0] not in ("", "-c", "-m") else "python"  # noqa: PTH119
    return f"unknown_service:{name}"


def _resource_attributes(values: Mapping[str, str]) -> dict[str, AttributeValue]:
    name = "OTEL_RESOURCE_ATTRIBUTES"
    attributes: dict[str, AttributeValue] = {}
    for member in filter(None, map(str.strip, values.get(name, "").split(","))):
        key, equals, value = member.partition("=")
        if not equals or not key.strip():
            raise ConfigurationError(f"{name} is a list such as key=value,key=value; {member!r} is no member of one.")
        attributes[unquote(key.strip())] = unquote(value.strip())
    return attributes


def _is_true(name: str, values: Mapping[str, str]) -> bool:
    value = values.get(name, "false").lower()
    if value not in ("true", "false"):
        raise ConfigurationError(f"{name} is true or false, not {values[name]!r}.")
    return value == "true"


def _number(name: str, values: Mapping[str, str], least: int, most: int) -> int | None:
    value = values.get(name)
    if value is None:
        return None
    digits = value.lstrip("0") or "0"
    if not (digits.isascii() and digits.isdigit() and len(digits) <= 12 and least <= int(digits) <= most):
        raise ConfigurationError(f"{name} is a whole number from {least} to {most}, not {value!r}.")
    return int(digits)


# Of SpanLimits, the variables that say it: what is particular comes before what is general.
_LIMITS = {
    "attributes": ("OTEL_SPAN_ATTRIBUTE_COUNT_LIMIT", "OTEL_ATTRIBUTE_COUNT_LIMIT"),
    "events": ("OTEL_SPAN_EVENT_COUNT_LIMIT",),
    "links": ("OTEL_SPAN_LINK_COUNT_LIMIT",),
    "event_attributes": ("OTEL_EVENT_ATTRIBUTE_COUNT_LIMIT", "OTEL_ATTRIBUTE_COUNT_LIMIT"),
    "link_attributes": ("OTEL_LINK_ATTRIBUTE_COUNT_LIMIT", "OTEL_ATTRIBUTE_COUNT_LIMIT"),
    "value_length": ("OTEL_SPAN_ATTRIBUTE_VALUE_LENGTH_LIMIT", "OTEL_ATTRIBUTE_VALUE_LENGTH_LIMIT"),
    "event_value_length": ("OTEL_ATTRIBUTE_VALUE_LENGTH_LIMIT",),
}


def _limits(values: Mapping[str, str]) -> SpanLimits:
    given: dict[str, int] = {}
    for field, names in _LIMITS.items():
        for name in reversed(names):
            number = _number(name, values, 0, (1 << 31) - 1)
            if number is not None:
                given[field] = number
    return SpanLimits(**given)


# --- exporters -------------------------------------------------------------------------------------------------------


def _otlp(values: Mapping[str, str]) -> Exporter:
    from clew.exporters.otlp import OtlpExporter

    return OtlpExporter(environ=values)


_EXPORTERS: dict[str, Callable[[Mapping[str, str]], Exporter]] = {
    "otlp": _otlp,
    "file": lambda values: FileExporter(values.get("CLEW_TRACES_FILE", _DEFAULT_FILE)),
    "console": lambda _: StdoutExporter(pretty=True),
    "none": lambda _: NoopExporter(),
}


def _exporter(values: Mapping[str, str]) -> Exporter:
    name = "OTEL_TRACES_EXPORTER"
    asked = _words(name, values, "otlp")
    for word in asked:
        if word not in _EXPORTERS:
            raise ConfigurationError(f"{name} is one or more of {', '.join(_EXPORTERS)}, not {word!r}.")
    exporters = [_EXPORTERS[word](values) for word in asked]
    return exporters[0] if len(exporters) == 1 else MultiExporter(*exporters)


# --- propagators -----------------------------------------------------------------------------------------------------


def _propagators(environ: Mapping[str, str]) -> list[str]:
    name = "OTEL_PROPAGATORS"
    asked = _words(name, _set(environ), "tracecontext,baggage")
    for word in asked:
        if word not in (*PROPAGATORS, "none"):
            raise ConfigurationError(f"{name} is one or more of {', '.join(PROPAGATORS)}, or none, not {word!r}.")
    return [] if "none" in asked else asked


# --- samplers --------------------------------------------------------------------------------------------------------

_PARENT_BASED = "parentbased_"
_SAMPLERS: dict[str, Callable[[float], Sampler]] = {
    "always_on": lambda _: AlwaysSample(),
    "always_off": lambda _: NeverSample(),
    "traceidratio": ProbabilitySample,
}


def _sampler(values: Mapping[str, str]) -> Sampler:
    name = "OTEL_TRACES_SAMPLER"
    asked = values.get(name, _PARENT_BASED + "always_on").lower()
    make = _SAMPLERS.get(asked.removeprefix(_PARENT_BASED))
    if make is None:
        known = ", ".join([*_SAMPLERS, *(_PARENT_BASED + each for each in _SAMPLERS)])
        raise ConfigurationError(f"{name} is one of {known}, not {values[name]!r}.")
    sampler = make(_share(values) if asked.endswith("traceidratio") else 1.0)
    if asked.startswith(_PARENT_BASED):
        return sampler  # a trace from elsewhere keeps its decision, whatever the sampler
    return ParentSample(sampler, remote_sampled=sampler, remote_not_sampled=sampler)


def _share(values: Mapping[str, str]) -> float:
    name = "OTEL_TRACES_SAMPLER_ARG"
    try:
        share = float(values.get(name, "1.0"))
    except ValueError:
        share = -1.0
    if not 0 <= share <= 1:
        raise ConfigurationError(f"{name} is a share from 0 to 1, not {values[name]!r}.")
    return share


# --- SIGTERM ---------------------------------------------------------------------------------------------------------


def flush_on_sigterm(timeout: float = 5.0) -> None:
    """Have SIGTERM deliver what has ended before it does what it did before.

    The handler that was there is called afterwards. Where there was none, open spans end, marked `clew.unfinished`, and
    the process ends by the signal, with the exit status that it would have had.

    Args:
        timeout: seconds that it may take.

    Raises: ConfigurationError: this is not the main thread, on which alone Python has signal handlers.
    Thread: the main one.
    """
    if threading.current_thread() is not threading.main_thread():
        raise ConfigurationError("call flush_on_sigterm on the main thread: Python has signal handlers there only.")
    before = signal.getsignal(signal.SIGTERM)

    def handle(number: int, frame: FrameType | None) -> None:
        if callable(before):
            flush_all(timeout)
            before(number, frame)
        elif before is not signal.SIG_IGN:
            close_all(timeout)
            # As without us: whoever waits for this process sees that the signal ended it.
            signal.signal(number, signal.SIG_DFL)
            signal.raise_signal(number)

    signal.signal(signal.SIGTERM, handle)
