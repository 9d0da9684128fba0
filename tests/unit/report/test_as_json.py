"""clew.report.as_json: a schema that programs can rely on."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from clew.model import Event, SpanRecord
from clew.report import Analysis, Report, traces
from clew.report.as_json import VERSION, to_json
from clew.report.figures import FIGURES
from clew.testing import capture_spans
from tests.tor_samples import TorSamples

if TYPE_CHECKING:
    from clew.model import Attributes
    from clew.report import Findings


def findings(requests: int = 40, seed: int = 1, slow: float = 1.0) -> Findings:
    analysis = Analysis(2)
    with capture_spans() as captured:
        TorSamples(captured.tracer, seed, slow=slow).run(requests)
        for spans in traces([captured.records]):
            analysis.add(spans)
    return analysis.findings(["a.jsonl"])


def shape(value: Any) -> Any:
    """The fields of a document, of lists those of the first element."""
    match value:
        case dict():
            return {key: shape(each) for key, each in value.items()}
        case list():
            return [shape(value[0])] if value and isinstance(value[0], dict | list) else []
    return type(value).__name__


SUMMARY = {
    "count": "int",
    "min_ns": "int",
    "p50_ns": "int",
    "p90_ns": "int",
    "p99_ns": "int",
    "max_ns": "int",
    "mean_ns": "int",
    "percentiles_of": "int",
}
RELAY = {"tries": "int", "failed": "int", "hop": SUMMARY}
PARTS = {
    "tor.hs.connect.descriptor.fetch": "int",
    "tor.hs.connect.rendezvous.establish": "int",
    "tor.hs.connect.introduce": "int",
    "tor.hs.connect.rendezvous.join": "int",
    "unexplained": "int",
}


def test_the_schema() -> None:
    """What is there, under which name, of which type. A change of it needs another VERSION."""
    document = to_json(Report(None, findings(), None))
    found = document["findings"]
    figures = found.pop("figures")
    spans = [span for request in found["slowest_requests"] for span in request.pop("spans")]
    assert VERSION == 1
    assert shape(document) == {
        "version": "int",
        "privacy_level": "NoneType",
        "findings": {
            "files": [],
            "remarks": [],
            "recorded_privacy_levels": [],
            "spans": "int",
            "start_unix_ns": "int",
            "end_unix_ns": "int",
            "requests": {
                "total": "int",
                "succeeded": "int",
                "failed": "int",
                "cancelled": "int",
                "onion": "int",
                "unclaimed": "int",
                "first_byte": "int",
                "cut": "int",
                "strays": "int",
            },
            "failures": {
                "start_unix_ns": "int",
                "step_ns": "int",
                "steps": "int",
                "requests_by_step": [],
                "reasons": [{"what": "str", "reason": "str", "count": "int", "by_step": []}],
            },
            "onion_connections": {
                "count": "int",
                "failed": "int",
                "middle_ns": "int",
                "middle_parts_ns": PARTS,
                "slowest": [{"start_unix_ns": "int", "duration_ns": "int", "error": "NoneType", "parts_ns": PARTS}],
            },
            "roles": [{"role": "str", **RELAY}],
            "guards": [
                {
                    "name": "str",
                    "nickname": "str",
                    "tries": "int",
                    "failed": "int",
                    "hop": SUMMARY,
                    "circuit_build": SUMMARY,
                    "time_to_first_byte": SUMMARY,
                }
            ],
            "slow_relays": [{"name": "str", "nickname": "str", "roles": "str", **RELAY}],
            "slowest_requests": [
                {
                    "name": "str",
                    "target": "str",
                    "start_unix_ns": "int",
                    "duration_ns": "int",
                    "first_byte_ns": "int",
                    "status": "str",
                    "reason": "NoneType",
                    "onion": "bool",
                    "spans_total": "int",
                }
            ],
        },
        "before": "NoneType",
        "changes": "NoneType",
    }
    assert list(figures) == [figure.key for figure in FIGURES]
    for figure in figures.values():
        assert set(figure) == {"title", "meaning", "series"}
        for series in figure["series"]:
            assert shape(series) == {"key": "str", "label": "str", **SUMMARY, "curve": [[]]}
            assert series["curve"][-1] == [series["max_ns"], 1.0]
    for span in spans:
        assert set(span) == {
            *("trace_id", "span_id", "parent_id", "name", "service", "offset_ns", "duration_ns", "status"),
            *("status_description", "attributes", "events"),
        }


def test_nothing() -> None:
    """Without spans the same fields, empty; not zeros that look measured."""
    found = to_json(Report(None, Analysis(2).findings([]), None))["findings"]
    assert (found["spans"], found["requests"]["total"]) == (0, 0)
    assert found["start_unix_ns"] is found["onion_connections"]["middle_ns"] is None
    assert all(figure["series"] == [] for figure in found["figures"].values())
    assert found["failures"] == {
        "start_unix_ns": None,
        "step_ns": 1_000_000_000,
        "steps": 0,
        "requests_by_step": [],
        "reasons": [],
    }


def test_before_and_after() -> None:
    """By which share each percentile changed: a session of twice the delays takes twice the time."""
    document = to_json(Report(None, findings(slow=2.0), findings()))
    assert document["before"]["requests"] == document["findings"]["requests"]
    changes = {change["key"]: change for change in document["changes"]["circuit_build"]}
    assert set(changes["all"]) == {"key", "p50", "p90", "p99"}
    assert changes["all"]["p50"] > 0.8


def test_any_value() -> None:
    """What an attribute may be, JSON may not: bytes, infinity, mappings in lists."""
    attributes: Attributes = {"a": b"\x00\xff", "b": float("inf"), "c": ({"d": float("nan")}, None, True), "e": 1.5}
    span = SpanRecord("t", "1", "", "GET", end_time_ns=9, attributes=attributes, events=(Event("x", 3, attributes),))
    stream = findings(4).slowest[0].spans[1]._replace(trace_id="t", span_id="2", parent_id="1")
    analysis = Analysis(1)
    analysis.add([span, stream])
    document = to_json(Report(None, analysis.findings([]), None))
    text = json.dumps(document, allow_nan=False)
    shown = json.loads(text)["findings"]["slowest_requests"][0]["spans"][0]
    assert shown["attributes"] == {"a": "00ff", "b": "inf", "c": [{"d": "nan"}, None, True], "e": 1.5}
    assert shown["events"][0]["attributes"] == shown["attributes"]
