"""A visitor's request through tor to an onion service, whose two parts are instrumented for OpenTelemetry: one trace.

Run it: python examples/fastapi_services.py
It needs tor (sudo apt-get install tor; the first start takes half a minute) and

    pip install 'clew[cli,otel]' 'httpx[socks]' fastapi uvicorn \
        opentelemetry-instrumentation-fastapi opentelemetry-instrumentation-httpx

The shop asks the warehouse over httpx. Both are FastAPI applications, and neither has a line about tracing: the
instrumentations make their spans, through OpenTelemetry's API, and clew's provider is behind it. The visitor comes
through a private Tor network on this machine; what tor did for it is in the trace too.
"""

from __future__ import annotations

import socket
import threading
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Literal

import httpx
import uvicorn
from fastapi import FastAPI
from opentelemetry.instrumentation.fastapi import FastAPIInstrumentor
from opentelemetry.instrumentation.httpx import HTTPXClientInstrumentor
from opentelemetry.trace import SpanKind

from clew import MemoryExporter, Tracer
from clew.otel import TracerProvider
from clew.render import render_text
from clew.tor import Lab, Privacy, trace_requests

if TYPE_CHECKING:
    from collections.abc import Iterator

    from clew import SpanRecord


# FastAPI's instrumentation would make a span of each message.
INNER: list[Literal["receive", "send"]] = ["receive", "send"]


def make_warehouse() -> FastAPI:
    warehouse = FastAPI()

    @warehouse.get("/stock/{item}")
    async def stock(item: str) -> int:
        return len(item)

    return warehouse


def make_shop(client: httpx.AsyncClient) -> FastAPI:
    shop = FastAPI()

    @shop.get("/items/{item}")
    async def page(item: str) -> dict[str, int]:
        answer = await client.get(f"/stock/{item}")
        return {item: int(answer.text)}

    return shop


@contextmanager
def serving(application: FastAPI) -> Iterator[int]:
    """Serve it on loopback, on a thread of its own; gives the port."""
    listener = socket.create_server(("127.0.0.1", 0))
    server = uvicorn.Server(uvicorn.Config(application, log_level="error", lifespan="off"))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
    thread.start()
    try:
        yield listener.getsockname()[1]
    finally:
        server.should_exit = True
        thread.join()
        listener.close()


def trace_visit(lab: Lab) -> list[SpanRecord]:
    """Make one request to the shop, which is a new onion service in the lab.

    Returns: the spans of all three programs, and tor's.
    """
    memory = MemoryExporter()
    with ExitStack() as stack:
        # Three programs in one process, so each has a provider of its own. One in a process calls clew.otel.install().
        visitor, shop_tracer, warehouse_tracer = (
            stack.enter_context(Tracer(name, exporter=memory)) for name in ("visitor", "shop", "warehouse")
        )
        warehouse = make_warehouse()
        FastAPIInstrumentor.instrument_app(
            warehouse, tracer_provider=TracerProvider(tracer=warehouse_tracer), exclude_spans=INNER
        )
        warehouse_port = stack.enter_context(serving(warehouse))

        shop_provider = TracerProvider(tracer=shop_tracer)
        client = httpx.AsyncClient(base_url=f"http://127.0.0.1:{warehouse_port}")
        HTTPXClientInstrumentor.instrument_client(client, shop_provider)
        shop = make_shop(client)
        FastAPIInstrumentor.instrument_app(shop, tracer_provider=shop_provider, exclude_spans=INNER)
        service = lab.add_onion_service(80, stack.enter_context(serving(shop)))

        # The visitor's own client is not instrumented: the header goes to the hosts that may be told, and to no other.
        stack.enter_context(trace_requests(visitor, lab.control, privacy=Privacy.LAB, propagate_to=[service.address]))
        tracer = TracerProvider(tracer=visitor).get_tracer("visitor")
        with (
            httpx.Client(proxy=f"socks5h://127.0.0.1:{lab.socks_port}", timeout=60) as browser,
            tracer.start_as_current_span("visit", kind=SpanKind.CLIENT),
        ):
            browser.get(f"http://{service.address}/items/tea").raise_for_status()
    return memory.records


def main() -> None:
    print("bringing up a private Tor network and an onion service on this machine ...", flush=True)
    with Lab() as lab:
        records = trace_visit(lab)
    (visit,) = (record for record in records if record.name == "visit")
    print(render_text([record for record in records if record.trace_id == visit.trace_id], width=116))


if __name__ == "__main__":
    main()
