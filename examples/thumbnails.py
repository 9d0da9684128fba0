"""Work spread over a pool of threads stays in one trace; a failure in one of them shows where it happened.

Run it: python examples/thumbnails.py
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

from clew import StdoutExporter, Tracer, carry, current_span

tracer = Tracer("thumbnails", exporter=StdoutExporter(pretty=True))


@tracer.trace
def decode(name: str) -> int:
    """The size of an image, in pixels."""
    if name.endswith(".txt"):
        raise ValueError(f"{name} is not an image")
    return len(name) * 1000


@tracer.trace
def shrink(name: str) -> int | None:
    """Make one thumbnail; None if that was not possible."""
    current_span().set_attribute("image.name", name)
    try:
        return decode(name) // 100
    except ValueError:
        return None


def main() -> None:
    names = ["cat.png", "notes.txt", "holiday.jpg"]
    with tracer, tracer.start_span("gallery", attributes={"images": len(names)}) as gallery:
        with ThreadPoolExecutor(max_workers=2) as pool:
            sizes = list(pool.map(carry(shrink), names))
        gallery.set_attribute("images.skipped", sizes.count(None))


if __name__ == "__main__":
    main()
