"""`clew convert`: spans of trace files, written in another format."""

from __future__ import annotations

import gzip
import json
import os
import sys
import tempfile
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import IO, TYPE_CHECKING

from clew.cli.no_collector import no_collector
from clew.cli.terminal import byte_progress

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterator

    from clew.formats import Format

__all__ = ["configure", "run"]

# The names in clew.formats.FORMATS, and of those that have a reader to be chosen: --help is not to wait for it to load.
_TO = ("jsonl", "pb", "zipkin", "jaeger", "gotor", "chrome", "csv", "parquet")
_FROM = ("jsonl", "zipkin", "jaeger", "gotor", "chrome", "csv")

_DESCRIPTION = """\
Write the spans of files in another format. OUT's name tells which: .jsonl and .pb (OTLP), .zipkin.json, .jaeger.json,
.gotor.json, .trace.json (for Perfetto), .csv, .parquet; with .gz behind it compressed. All of them are read, too.
"-" is standard input or output. What a format cannot hold is said at the end.
"""

_EPILOG = """\
examples:
  clew convert traces.jsonl traces.pb.gz
  clew convert traces.jsonl week.jaeger.json       to be opened in Jaeger's UI
  clew convert a.jsonl zipkin.json both.jsonl      OTLP and Zipkin's, together
  clew convert traces.pb - --to jsonl | less

exit status: 0 if the file was written, 1 on an error, 2 for a wrong option.
"""


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the options of `clew convert`."""
    parser.description = _DESCRIPTION
    parser.epilog = _EPILOG
    parser.add_argument("files", nargs="+", metavar="IN", help='a file of traces; "-" is standard input')
    parser.add_argument("out", metavar="OUT", help='the file to write; "-" is standard output')
    parser.add_argument("--to", choices=_TO, help="the format to write (default: by OUT's name)")
    parser.add_argument(
        "--from", dest="from_", choices=_FROM, help="the format of the files (default: by what is in them)"
    )
    parser.add_argument("--force", action="store_true", help="replace OUT if it exists")
    parser.add_argument("--json", action="store_true", help="print the counts as JSON")
    parser.set_defaults(refuse=parser.error)


def run(args: argparse.Namespace) -> int:
    """Convert. Returns: the exit status."""
    if args.files.count("-") > 1:
        args.refuse("standard input can be read only once")
    if args.out == "-" and args.json:
        args.refuse("--json prints on standard output, where the spans go")
    from clew.cli.view_output import count, say
    from clew.formats import FORMATS, format_of_name

    name: str | None = args.to or format_of_name(args.out)
    if name is None:
        suffixes = ", ".join(suffix for form in FORMATS.values() for suffix in form.suffixes)
        args.refuse(f"OUT's name does not tell the format: end it in one of {suffixes}, or use --to")
        return 2
    with no_collector(), ExitStack() as stack:
        conversion = _Conversion(FORMATS[name], stack, args.from_)
        out = stack.enter_context(_output(args.out, force=args.force))
        for path in args.files:
            conversion.add(path, out)
        conversion.finish(out)
    losses = conversion.writer.losses
    if args.json:
        counts = {"spans": conversion.spans, "files": len(args.files), "damaged_files": conversion.damaged_files}
        print(json.dumps({**counts, "losses": dict(losses.counts)}))
        return 0
    say(f"{count(conversion.spans, 'span')} written")
    for sentence in losses.sentences():
        say(f"lost in {name}: {sentence}")
    return 0


class _Conversion:
    """Files on their way to one.

    Args:
        form: to be written.
        stack: closes what is needed on the way.
        from_: the name of the format to be read; None: whatever it is.

    Raises:
        FormatError: the format needs a package that is not installed.
    """

    def __init__(self, form: Format, stack: ExitStack, from_: str | None) -> None:
        from clew.formats import FORMATS, AnyReader, ByTrace

        self.writer = form.make_writer()
        self.spans = 0
        self.damaged_files = 0
        self._sorted = stack.enter_context(ByTrace()) if form.is_by_trace else None
        self._make_reader = AnyReader if from_ is None else FORMATS[from_].reader_maker()

    def add(self, path: str, out: IO[bytes] | gzip.GzipFile) -> None:
        """Convert a file."""
        from clew.cli.view_output import DamageReport
        from clew.formats import TraceFile, encoded_of, records_of

        with byte_progress("reading standard input", None if path == "-" else 0) as on_bytes:
            file = TraceFile(path, on_bytes)
        report = DamageReport(file.name)
        action = "converting" if self._sorted is None else "sorting by trace"
        with file, byte_progress(action, file.size_bytes) as on_bytes:
            items = file.items(on_bytes=on_bytes, make_reader=self._make_reader)
            if self._sorted is None:
                for data, number in encoded_of(items, self.writer, report.add):
                    out.write(data)
                    self.spans += number
            else:
                for records in records_of(items, report.add):
                    self._sorted.add(records)
                    self.spans += len(records)
        self.damaged_files += any(report.sentences())
        report.say()

    def finish(self, out: IO[bytes] | gzip.GzipFile) -> None:
        """Write what is left."""
        if self._sorted is not None:
            with byte_progress("converting", self._sorted.size_bytes) as on_bytes:
                for records in self._sorted.records(on_bytes):
                    out.write(self.writer.encode(records))
        out.write(self.writer.finish())


@contextmanager
def _output(path: str, *, force: bool) -> Iterator[IO[bytes] | gzip.GzipFile]:
    """What to write to: a file of mode 0600 that gets its name when it is whole; nothing is left after an error.

    Raises: OSError; FileExistsError, unless `force` is given.
    """
    if path == "-":
        yield sys.stdout.buffer
        return
    target = Path(path)
    if target.exists() and not (force and target.is_file()):
        raise FileExistsError(0, "it exists; --force replaces a file", path)
    handle, name = tempfile.mkstemp(prefix=f".{target.name[:100]}.", dir=target.parent)  # its mode is 0600
    try:
        with os.fdopen(handle, "wb") as raw:
            if path.endswith(".gz"):
                with gzip.GzipFile(filename="", fileobj=raw, mode="wb", compresslevel=6) as compressed:
                    yield compressed
            else:
                yield raw
        if force:
            Path(name).replace(target)
        else:
            target.hardlink_to(name)  # unlike a rename, it fails if somebody made the file meanwhile
    finally:
        Path(name).unlink(missing_ok=True)
