"""Results to one table, for terminals and documents: README.md and docs/performance.md have their figures from here.

A document has blocks between `<!-- NAME: written by make bench -->` and `<!-- end of NAME -->`; `write_documents` fills
them from what is recorded in results, and a test compares. Nothing is measured here.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "benchmarks" / "results"
DOCUMENTS = (ROOT / "README.md", ROOT / "docs" / "performance.md")
BLOCK = re.compile(r"(<!-- ([\w-]+): written by `make \w+` -->\n)(.*?)(<!-- end of \2 -->)", re.DOTALL)

PEERS = ("otel", "fastotel")
HEADS = ("what", "clew", "OpenTelemetry SDK", "fastotel", "times clew", "bar", "")

Row = dict[str, Any]


# --- results to rows ------------------------------------------------------------------------------------------------


def collect(reports: dict[str, dict[str, Any]]) -> list[Row]:
    """The rows of the table, in the order of their weight, from what each benchmark reported."""
    spans = {entry["row"]: entry for entry in reports["bench_span"]["rows"]}
    span_bars: dict[str, list[Row]] = {}
    for bar in reports["bench_span"]["bars"]:
        text = f"at most {bar['limit']:g} {bar['unit']}".strip()
        span_bars.setdefault(bar["row"], []).append({"text": text, "met": bar["met"]})
    rows = []
    delivery = reports["bench_delivery"]
    for entry in delivery["rows"]:
        bars = [
            {"text": f"{bar['times']} x", "met": bar["met"]} for bar in delivery["bars"] if bar["row"] == entry["row"]
        ]
        rows.append(of_span(entry, bars))
    rows += [of_span(spans[name], span_bars.get(name, [])) for name in ("empty", "typical", "below", "root", "queued")]
    for entry in reports["bench_end"]["rows"]:
        values = {name: us["p99.9"] * 1000 for name, us in entry["us"].items()}
        longest = {name: us["max"] * 1000 for name, us in entry["us"].items()}
        bars = [{"text": f"at most {entry['bar_us']} µs", "met": entry["met"]}]
        row = {"row": f"end-{entry['row']}", "what": f"{entry['what']}: p99.9", "unit": "ns", "values": values}
        rows.append({**row, "times": ratios(values), "bars": bars, "longest": longest})
    for entry in reports["bench_otel"]["rows"]:
        values = {"clew": entry["cpu_ns"]["clew"], "otel": entry["cpu_ns"]["sdk"]}
        bars = [{"text": f"{entry['bar']} x", "met": entry["met"]}]
        row = {"row": f"api-{entry['row']}", "what": f"through OpenTelemetry's API, {entry['what']}", "unit": "ns"}
        rows.append({**row, "values": values, "times": {"otel": entry["times_clew"]}, "bars": bars})
    rows += [of_span(spans[name], span_bars.get(name, [])) for name in ("import", "modules")]
    tor, bar = reports["bench_tor"], reports["bench_tor"]["bar"]
    row = {"row": "tor", "what": "Tor's events to spans, on one core", "unit": "/s", "times": {}}
    bars = [{"text": f"at least {bar['per_second']:,} /s", "met": bar["met"]}]
    rows.append({**row, "values": {"clew": tor["rows"][0]["per_second"]}, "bars": bars})
    for entry in reports["bench_threads"]["rows"]:
        row = {"row": f"threads-{entry['row']}", "what": f"typical, encoded: {entry['what']}", "unit": "/s"}
        rows.append({**row, "values": entry["per_second"], "times": entry["times_clew"], "bars": []})
    for entry in reports["bench_keep"]["rows"]:
        row = {"row": f"keep-{entry['row']}", "what": entry["what"], "unit": "ns", "values": {"clew": entry["ns"]}}
        rows.append({**row, "floors": entry["floors"], "times": {}, "bars": [], "mb": round(entry["written"] / 1e6, 2)})
    return rows


def of_span(entry: dict[str, Any], bars: list[Row]) -> Row:
    """A row of bench_span or bench_delivery."""
    row = {"row": entry["row"], "what": entry["what"], "unit": entry["unit"], "values": entry["value"]}
    if "floors" in entry:
        row |= {"floors": entry["floors"]["clew"], "floor": entry["floor"]["clew"]}
    return {**row, "times": entry["times_clew"], "bars": bars}


def ratios(values: dict[str, float]) -> dict[str, float]:
    return {name: round(value / values["clew"], 1) for name, value in values.items() if name != "clew"}


# --- rows to text ---------------------------------------------------------------------------------------------------


def quantity(value: float, unit: str) -> str:
    """A figure with three digits that count."""
    if unit == "ns":
        value, unit = (value / 1e6, "ms") if value >= 1e6 else (value / 1e3, "µs")
    if unit in ("/s", "bytes", ""):
        return f"{value:,.0f} {unit}".strip()
    digits = 0 if value >= 100 else 1 if value >= 10 else 2
    return f"{value:.{digits}f} {unit}"


def cells(row: Row) -> tuple[str, ...]:
    """A row as `HEADS` has it."""

    def of(name: str) -> str:
        if name not in row["values"]:
            return ""
        text = quantity(row["values"][name], row["unit"])
        if name == "clew" and "floors" in row:
            text += f" ({row['floors']:.1f} floors)"
        if "longest" in row:
            text += f" (longest {quantity(row['longest'][name], 'ns')})"
        return text

    times = " / ".join(f"{row['times'][name]:,.0f} x" for name in PEERS if name in row["times"])
    bar = " / ".join(bar["text"] for bar in row["bars"])
    met = " / ".join("met" if bar["met"] else "NOT MET" for bar in row["bars"])
    return row["what"], of("clew"), of("otel"), of("fastotel"), times, bar, met


def text_table(rows: list[Row]) -> str:
    """For a terminal."""
    lines = [HEADS, *map(cells, rows)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(HEADS))]
    return "\n".join("  ".join(map(str.ljust, line, widths)).rstrip() for line in lines)


def markdown(heads: Iterable[str], lines: Iterable[Iterable[str]]) -> str:
    heads = tuple(heads)
    every = [heads, ["---"] * len(heads), *lines]
    return "".join(f"| {' | '.join(line)} |\n".replace("|  |", "| |").replace("|  |", "| |") for line in every)


def where(report: dict[str, Any]) -> str:
    """On what it was measured."""
    machine, versions = report["machine"], report["versions"]
    peers = ", ".join(f"{name} {versions[name]}" for name in ("opentelemetry-sdk", "fastotel") if name in versions)
    return (
        f"{machine['cores']} cores of an {machine['cpu']}, {machine['python']}, {peers}; clew {versions['clew']} "
        f"at {versions.get('revision', 'no known revision')}; {report['time'][:10]}"
    )


def all_rows(report: dict[str, Any]) -> str:
    """docs/performance.md: everything."""
    table = markdown(HEADS, map(cells, report["rows"]))
    rounds = ", ".join(f"{name} {count}" for name, count in report["rounds"].items())
    return f"{table}\nMeasured on {where(report)}. Rounds: {rounds}.\n"


def cost(report: dict[str, Any]) -> str:
    """README.md: what a span costs."""
    rows = {row["row"]: row for row in report["rows"]}
    heads = ("a span", "clew", "in floors", "the OpenTelemetry SDK takes", "fastotel takes")
    lines = []
    for name in ("root", "below", "empty", "typical", "delivered", "api-sampled"):
        row = rows[name]
        floors = f"{row['floors']:.1f}" if "floors" in row else ""
        peers = (f"{row['times'][peer]:.0f} x" if peer in row["times"] else "" for peer in PEERS)
        lines.append((row["what"], quantity(row["values"]["clew"], row["unit"]), floors, *peers))
    machine = report["machine"]
    return (
        f"{markdown(heads, lines)}\n"
        f"While it waits for the exporter a typical span takes {rows['queued']['values']['clew']:.0f} bytes. "
        "Measured on\n"
        f"{machine['cores']} cores of an {machine['cpu']} with {machine['python']}, where the floor was "
        f"{quantity(rows['typical']['floor'], 'ns')}.\n"
    )


def price(report: dict[str, Any]) -> str:
    """README.md: what it costs to record everything and keep what matters."""
    heads = ("every span is recorded, and", "CPU of a span", "in floors", "stored or sent")
    kept = (row for row in report["rows"] if row["row"].startswith("keep-"))
    return markdown(
        heads,
        (
            (row["what"], quantity(row["values"]["clew"], "ns"), f"{row['floors']:.1f}", f"{row['mb']:g} MB")
            for row in kept
        ),
    )


def long_run(report: dict[str, Any]) -> str:
    """docs/performance.md: the run of ten minutes."""
    minutes, memory = report["seconds"] / 60, report["memory_mb"]
    return (
        f"{report['threads']} threads for {minutes:g} minutes: {report['stats']['started']:,} spans, "
        f"{report['received']:,} of them received by the OTLP server and {report['stats']['failed']:,} failed, "
        f"{report['dropped']:,} dropped.\n"
        f"The memory of the process was {memory['after_warm_up']:.1f} MB after a warm-up of {report['warm_up']:g} s, "
        f"{memory['most']:.1f} MB at the most since then,\n"
        f"and its slope {report['slope_kb_per_minute']:+.1f} KB a minute. Measured on {where(report)}.\n"
    )


BLOCKS: dict[str, tuple[str, Callable[[dict[str, Any]], str]]] = {
    "rows": ("bench.json", all_rows),
    "cost": ("bench.json", cost),
    "price": ("bench.json", price),
    "long-run": ("long_run.json", long_run),
}


def filled(document: str) -> str:
    """A document with its blocks as they are to be by what is recorded."""

    def fill(found: re.Match[str]) -> str:
        source, function = BLOCKS[found[2]]
        path = RESULTS / source
        text = function(json.loads(path.read_text())) if path.exists() else "No run is recorded.\n"
        return f"{found[1]}{text}{found[4]}"

    return BLOCK.sub(fill, document)


def write_documents() -> None:
    """Bring the documents up to date."""
    for path in DOCUMENTS:
        path.write_text(filled(path.read_text()))


if __name__ == "__main__":
    write_documents()
