"""A program that knows OpenTelemetry's API only, and what it costs: bench_otel.py runs it, once for each measurement.

`python otel_program.py clew|sdk ROW REQUESTS URL`: CPU nanoseconds of the whole process per span, for as many requests
of a server, to the last span delivered, and how many are to arrive. Neither importing nor the first requests count.
"""

from __future__ import annotations

import json
import sys
import time
from typing import TYPE_CHECKING

from opentelemetry import trace

if TYPE_CHECKING:
    from collections.abc import Callable

SPANS = 3  # of a request
WARM_UP = 100


def clew_provider(row: str, url: str) -> Callable[[], bool]:
    import clew
    import clew.otel

    if row == "unsampled":
        provider = clew.otel.install(clew.Tracer("bench", sampler=clew.NeverSample()))
    else:
        exporter = clew.OtlpExporter(url, compression="none")
        provider = clew.otel.install(clew.Tracer("bench", exporter, max_queue_bytes=1 << 30))
    return provider.force_flush


def sdk_provider(row: str, url: str) -> Callable[[], bool]:
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor
    from opentelemetry.sdk.trace.sampling import ALWAYS_OFF, ALWAYS_ON, ParentBased

    sampler = ParentBased(ALWAYS_OFF if row == "unsampled" else ALWAYS_ON)
    provider = TracerProvider(sampler, Resource({"service.name": "bench"}))
    # Its default queue would drop most spans of a loop like this one.
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter(f"{url}/v1/traces"), max_queue_size=1 << 20))
    trace.set_tracer_provider(provider)
    return provider.force_flush


def serve(count: int) -> None:
    """What an instrumented server does: a span for the request, one for its query, one for what it asks elsewhere."""
    server, database, client = (trace.get_tracer(f"bench.{name}", "1.0") for name in ("server", "database", "client"))
    for number in range(count):
        attributes = {"http.request.method": "GET", "http.route": "/users/{id}", "url.path": f"/users/{number}"}
        with server.start_as_current_span("GET /users/{id}", kind=trace.SpanKind.SERVER, attributes=attributes) as span:
            with database.start_as_current_span("SELECT users", kind=trace.SpanKind.CLIENT) as query:
                if query.is_recording():
                    query.set_attribute("db.system", "postgresql")
                    query.set_attribute("db.rows", number)
            with client.start_as_current_span("GET", kind=trace.SpanKind.CLIENT) as call:
                call.set_attribute("http.response.status_code", 200)
                call.add_event("retry", {"attempt": 1})
            span.set_attribute("http.response.status_code", 200)
            span.set_status(trace.StatusCode.OK)


def main() -> None:
    provider, row, count, url = sys.argv[1], sys.argv[2], int(sys.argv[3]), sys.argv[4]
    flush = {"clew": clew_provider, "sdk": sdk_provider}[provider](row, url)
    serve(WARM_UP)
    flush()
    begin, began = time.process_time_ns(), time.perf_counter_ns()
    serve(count)
    if not flush():
        sys.exit("the spans were not delivered")
    cpu, wall = time.process_time_ns() - begin, time.perf_counter_ns() - began
    delivered = (WARM_UP + count) * SPANS if row == "sampled" else 0
    print(json.dumps({"cpu": cpu / count / SPANS, "wall": wall / count / SPANS, "delivered": delivered}))


if __name__ == "__main__":
    main()
