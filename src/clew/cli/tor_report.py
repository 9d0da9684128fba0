"""`clew tor report`: reads the files, and writes the report to the terminal, as JSON or as a page."""

from __future__ import annotations

import gc
import os
from contextlib import ExitStack
from typing import TYPE_CHECKING, NamedTuple

from clew.cli.terminal import byte_progress, make_console
from clew.cli.view_output import DamageReport, count, say
from clew.errors import FormatError
from clew.formats import TraceFile, records_of
from clew.report import Analysis, Findings, Remark, Report, level_shown, redact, side_by_side, traces
from clew.tor.privacy import Privacy

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from clew.model import SpanRecord

__all__ = ["Options", "report"]

_SLOWEST_ON_PAGE = 10
_SLOWEST_ON_TERMINAL = 3


class Options(NamedTuple):
    """What was asked for."""

    files: list[str]
    before: list[str]  # to compare with
    html: str | None  # where the page goes
    json: bool
    privacy: Privacy | None
    limit: int | None  # slowest requests
    color: str
    width: int | None


def report(options: Options) -> int:
    """Make the report. Returns: the exit status, 1 if there was no span, or a file could not be read."""
    default = _SLOWEST_ON_TERMINAL if options.html is None else _SLOWEST_ON_PAGE
    limit = default if options.limit is None else options.limit
    found, is_complete = _analyse(options.files, limit)
    before, is_before_complete = _analyse(options.before, limit) if options.before else (None, True)
    if options.html is not None:
        # What is sent on to others tells nothing, unless it is asked for.
        level = Privacy.ANONYMOUS if options.privacy is None else options.privacy
        _write_page(_at_level(found, before, level), options.html)
    if options.json:
        from json import dumps

        from clew.report.as_json import to_json

        print(dumps(to_json(_at_level(found, before, options.privacy)), indent=1, allow_nan=False))
    elif options.html is None:
        from clew.report.terminal import TerminalReport

        make_console(options.color, options.width).print(TerminalReport(_at_level(found, before, options.privacy)))
    for findings in (found, before):
        if findings is not None:
            for remark in findings.remarks:
                say(f"{findings.files[remark.file]}: {remark.sentence}")
    return 0 if found.span_count and is_complete and is_before_complete else 1


def _at_level(found: Findings, before: Findings | None, wanted: Privacy | None) -> Report:
    groups = [found] if before is None else [found, before]
    level = level_shown(wanted, groups)
    shown = redact(groups, level)
    return Report(level, shown[0], None if before is None else shown[1])


# --- reading --------------------------------------------------------------------------------------------------------


def _analyse(paths: list[str], slowest: int) -> tuple[Findings, bool]:
    """Read files. Returns: what was found, and whether all of them could be read."""
    analysis = Analysis(slowest)
    remarks: list[Remark] = []
    is_complete = True

    def fail(number: int, sentence: str) -> None:
        nonlocal is_complete
        is_complete = False
        remarks.append(Remark(number, sentence))

    with ExitStack() as stack:
        files: list[tuple[int, TraceFile, DamageReport]] = []
        for number, path in enumerate(paths):
            try:
                with byte_progress("reading standard input", None if path == "-" else 0) as on_bytes:
                    file = stack.enter_context(TraceFile(path, on_bytes))
            except OSError as error:
                fail(number, error.strerror or str(error))
            else:
                files.append((number, file, DamageReport(file.name)))
        size_bytes = sum(file.size_bytes for _, file, _ in files)
        on_bytes = stack.enter_context(byte_progress("reading the traces", size_bytes))
        blocks = side_by_side(_blocks(number, file, damage, on_bytes, fail) for number, file, damage in files)
        # Thousands of spans are held, and none of them in a cycle: the collector would look through them all the time.
        gc.disable()
        stack.callback(gc.enable)
        for spans in traces(blocks):
            analysis.add(spans)
        for number, _, damage in files:
            remarks += [Remark(number, sentence) for sentence in damage.sentences()]
    names = ["standard input" if path == "-" else path for path in paths]
    return analysis.findings(names, remarks), is_complete


def _blocks(
    number: int,
    file: TraceFile,
    damage: DamageReport,
    on_bytes: Callable[[int], object],
    fail: Callable[[int, str], None],
) -> Iterator[list[SpanRecord]]:
    """The spans of one file, a block at a time; what cannot be read on ends it."""
    try:
        yield from records_of(file.items(on_bytes=on_bytes), damage.add)
    except FormatError as error:
        fail(number, str(error).removeprefix(f"{file.name}: "))
    except OSError as error:
        fail(number, error.strerror or str(error))


# --- writing --------------------------------------------------------------------------------------------------------


def _write_page(report: Report, path: str) -> None:
    """Write the page for its owner alone, as the files that it was made from are."""
    from clew.report.page import render_page

    page = render_page(report)
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC
    with os.fdopen(os.open(path, flags, 0o600), "w", encoding="utf-8") as file:
        file.write(page)
        size_bytes = file.tell()
    what = count(report.findings.requests.total, "request")
    level = "everything as recorded"
    if report.level is not None:
        level = f"privacy level {report.level.value} ({report.level.name.lower()})"
    say(f"{path}: {what}, {level}, {-(-size_bytes // 1024):,} KiB, for any browser")
