"""A request through two services, each with a tracer of its own: one trace, because the headers carry the context.

Run it: python examples/web_service.py
It serves and asks on loopback, and writes traces.jsonl in the current folder: clew view traces.jsonl
"""

from __future__ import annotations

import threading
import urllib.request
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from clew import FileExporter, SpanKind, Tracer, extract, inject

shop = Tracer("shop", exporter=FileExporter("traces.jsonl"))
warehouse = Tracer("warehouse", exporter=FileExporter("traces.jsonl"))


class Warehouse(BaseHTTPRequestHandler):
    """Answers how many there are of an item."""

    def do_GET(self) -> None:
        with warehouse.start_span("GET /stock", kind=SpanKind.SERVER, parent=extract(self.headers.items())) as span:
            span.set_attribute("url.path", self.path)
            with warehouse.start_span("look-up", attributes={"item": self.path.rpartition("/")[2]}):
                body = b"7"
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)
            span.set_attribute("http.response.status_code", 200)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class names it
        """Say nothing: the trace tells it."""


def stock(address: str, item: str) -> int:
    """Ask the warehouse."""
    with shop.start_span("GET /stock", kind=SpanKind.CLIENT, attributes={"server.address": address}) as span:
        headers: dict[str, str] = {}
        inject(headers)
        request = urllib.request.Request(f"http://{address}/stock/{item}", headers=headers)
        with urllib.request.urlopen(request) as answer:  # noqa: S310
            span.set_attribute("http.response.status_code", answer.status)
            return int(answer.read())


def main() -> None:
    with ThreadingHTTPServer(("127.0.0.1", 0), Warehouse) as server:
        threading.Thread(target=server.serve_forever).start()
        with shop.start_span("checkout") as checkout:
            items = stock(f"127.0.0.1:{server.server_port}", "tea")
            checkout.set_attribute("cart.items", items)
        server.shutdown()
    shop.close()
    warehouse.close()
    print(f"{items} in stock; the trace {checkout.trace_id} is in traces.jsonl")


if __name__ == "__main__":
    main()
