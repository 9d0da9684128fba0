"""`clew convert`: spans of trace files, written as OTLP JSON Lines or OTLP protobuf."""

from __future__ import annotations

import gzip
import json
import os
import sys
import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import IO, TYPE_CHECKING

from clew.cli.no_collector import no_collector
from clew.cli.terminal import byte_progress

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterator

__all__ = ["configure", "run"]

_DESCRIPTION = """\
Write the spans of files in another format: OTLP JSON Lines (.jsonl) or OTLP protobuf (.pb, .binpb), with .gz behind it
compressed. It reads what 'clew view' reads. "-" is standard input or output.
"""

_EPILOG = """\
examples:
  clew convert traces.jsonl traces.pb.gz
  clew convert a.jsonl traces.json both.jsonl      OTLP and go-tor's, together
  clew convert traces.pb - --to jsonl | less

exit status: 0 if the file was written, 1 on an error, 2 for a wrong option.
"""

_SUFFIXES = {".jsonl": "jsonl", ".pb": "pb", ".binpb": "pb"}


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the options of `clew convert`."""
    parser.description = _DESCRIPTION
    parser.epilog = _EPILOG
    parser.add_argument("files", nargs="+", metavar="IN", help='a file of traces; "-" is standard input')
    parser.add_argument("out", metavar="OUT", help='the file to write; "-" is standard output')
    parser.add_argument("--to", choices=("jsonl", "pb"), help="the format to write (default: by OUT's name)")
    parser.add_argument("--force", action="store_true", help="replace OUT if it exists")
    parser.add_argument("--json", action="store_true", help="print the counts as JSON")
    parser.set_defaults(refuse=parser.error)


def run(args: argparse.Namespace) -> int:
    """Convert. Returns: the exit status."""
    if args.files.count("-") > 1:
        args.refuse("standard input can be read only once")
    if args.out == "-" and args.json:
        args.refuse("--json prints on standard output, where the spans go")
    form: str | None = args.to or _SUFFIXES.get(Path(args.out.removesuffix(".gz")).suffix)
    if form is None:
        args.refuse("OUT's name does not tell the format: end it in .jsonl or .pb, or use --to")
        return 2
    from clew.cli.view_output import DamageReport, count, say
    from clew.formats import TraceFile
    from clew.formats.writing import FORMATS, encoded_of

    writer = FORMATS[form].make_writer()
    spans = damaged = 0
    with no_collector(), _output(args.out, force=args.force) as out:
        for path in args.files:
            with byte_progress("reading standard input", None if path == "-" else 0) as on_bytes:
                file = TraceFile(path, on_bytes)
            report = DamageReport(file.name)
            with file, byte_progress("converting", file.size_bytes) as on_bytes:
                for data, count_of_block in encoded_of(file.items(on_bytes=on_bytes), writer, report.add):
                    out.write(data)
                    spans += count_of_block
            sentences = list(report.sentences())
            damaged += len(sentences) > 0
            report.say()
        out.write(writer.finish())
    if args.json:
        print(json.dumps({"spans": spans, "files": len(args.files), "damaged_files": damaged}))
    else:
        say(f"{count(spans, 'span')} written")
    return 0


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
