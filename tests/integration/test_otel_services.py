"""Services that know OpenTelemetry's API only, reached through tor: one trace, from the visitor to the last of them."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest
from examples import fastapi_services

from clew.model import SpanKind
from clew.tree import assemble

if TYPE_CHECKING:
    from collections.abc import Iterator

    from clew.model import SpanRecord
    from clew.tor.lab import Lab

pytestmark = pytest.mark.tor


def outline(records: list[SpanRecord]) -> list[str]:
    """The visit's trace without tor's spans, a line each: depth, service, kind and name."""
    (trace,) = (trace for trace in assemble(records) if any(root.record.name == "visit" for root in trace.roots))
    (root,) = trace.roots
    lines, todo = [], [(0, root)]
    while todo:
        depth, node = todo.pop(0)
        record = node.record
        if not record.name.startswith("tor."):
            lines.append(f"{'  ' * depth}{record.resource.service_name}: {SpanKind(record.kind).name} {record.name}")
            todo[:0] = [(depth + 1, child) for child in node.children]
    return lines


def test_one_trace_through_tor_and_both_services(
    lab: Lab, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The example, whole: what the instrumentations make lies below what called it, and so does what tor did."""
    seen: list[SpanRecord] = []
    trace_visit = fastapi_services.trace_visit

    @contextmanager
    def the_lab() -> Iterator[Lab]:
        yield lab

    def keep(lab: Lab) -> list[SpanRecord]:
        seen.extend(trace_visit(lab))
        return seen

    monkeypatch.setattr(fastapi_services, "Lab", the_lab)
    monkeypatch.setattr(fastapi_services, "trace_visit", keep)
    fastapi_services.main()
    assert outline(seen) == [
        "visitor: CLIENT visit",
        "  shop: SERVER GET /items/{item}",
        "    shop: CLIENT GET",
        "      warehouse: SERVER GET /stock/{item}",
    ]
    (visit,) = (record for record in seen if record.name == "visit")
    streams = [record for record in seen if record.name == "tor.stream" and record.parent_id == visit.span_id]
    assert len(streams) == 1
    scopes = {record.name: record.scope.name for record in seen if record.name.startswith("GET")}
    package = "opentelemetry.instrumentation"
    assert scopes == {
        "GET /items/{item}": f"{package}.fastapi",
        "GET": f"{package}.httpx",
        "GET /stock/{item}": f"{package}.fastapi",
    }
    shown = capsys.readouterr().out
    for words in ("tor.hs.connect", "GET /items/{item} (server) in shop", "GET /stock/{item} (server) in warehouse"):
        assert words in shown
