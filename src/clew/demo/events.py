"""Events and Attributes: what a span can carry."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from clew import Link, MemoryExporter, Tracer
from clew.limits import ATTRIBUTES_PER_SPAN

if TYPE_CHECKING:
    from clew.demo.stage import Stage

__all__ = ["run"]

_TOO_MANY = 150


def run(stage: Stage) -> None:
    stage.say(
        "Attributes say what an operation was about: text, numbers, bytes, nested lists and mappings, copied when they "
        "are set. Events say what happened and when. Links point to other traces."
    )
    stage.say("")
    exporter = MemoryExporter()
    with Tracer("demo", exporter=exporter, resource={"service.version": "1.4"}) as tracer:
        with tracer.start_span("queue-job") as queued:
            pass
        hosts = ["alpha", "beta"]
        with tracer.start_span("run-job", links=[Link(queued.context, {"reason": "queued by"})], parent=None) as span:
            span.set_attributes(
                {
                    "job.name": "nightly-report",
                    "job.attempt": 2,
                    "job.share": 0.25,
                    "job.urgent": False,
                    "job.digest": b"\x0c\x1e\xff",
                    "job.hosts": hosts,
                    "job.options": {"retries": 3, "format": {"name": "pdf"}},
                }
            )
            hosts.append("too late: the list was copied")
            for step, rows in (("prepared", 0), ("rendered", 800), ("stored", 640)):
                time.sleep(0.004)
                span.add_event(step, {"rows": rows})
        with tracer.start_span("crowded", parent=None) as crowded:
            for number in range(_TOO_MANY):
                crowded.set_attribute(f"attribute.{number}", number)
        tracer.flush(5)
    records = {record.name: record for record in exporter.records}
    stage.traces([records["run-job"]], details=True)
    stage.say("Each event with its time after the start:")
    stage.say("")
    job = records["run-job"]
    stage.table(
        ["event", "after", "attributes"],
        (
            (event.name, f"{(event.time_ns - job.start_time_ns) / 1e6:.1f} ms", dict(event.attributes))
            for event in job.events
        ),
    )
    full = records["crowded"]
    stage.say(
        f"A span has limits: of {_TOO_MANY} attributes {len(full.attributes)} were kept (the limit is "
        f"{ATTRIBUTES_PER_SPAN}), and the span says that {full.dropped_attributes} were dropped."
    )
