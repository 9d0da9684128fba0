"""`make fuzz`: each target for a while under coverage guidance, one after the other, on one core.

    make fuzz                               every target, a minute each
    make fuzz SECONDS=10                    ten seconds each
    make fuzz TARGET=otlp-json SECONDS=600  one of them, for long
    make fuzz TARGET="otlp-json file-csv"   some of them

Inputs that reach new code are gathered in build/fuzz/corpus and are where the next run begins; what breaks a promise is
left in build/fuzz/findings. atheris, which does the work, is installed with the extra `fuzz`.
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
import time
import traceback
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple

from tests.fuzz.targets import CORPUS, TARGETS

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["Result", "main", "missing_atheris"]

_BUILD: Final = Path("build/fuzz")
# libFuzzer's line about where it is: "#8192 pulse cov: 27 ft: 123 corp: 40/1855b lim: 742 exec/s: 26214 rss: 44Mb".
_STATUS: Final = re.compile(r"#(\d+)\s.*?cov: (\d+) ft: (\d+) corp: (\d+)")
# One input that takes longer than this is a finding: what is linear takes milliseconds.
_SLOW_SECONDS: Final = 10
_MEMORY_MB: Final = 1024
# For whatever libFuzzer does besides, on a machine that is busy: loading, ending.
_GRACE_SECONDS: Final = 300


class Result(NamedTuple):
    """What became of a target."""

    name: str
    seconds: float
    runs: int
    coverage: int  # edges of the code that were reached
    inputs: int  # that reach something new
    finding: Path | None
    words: str  # the end of what the target said, if there is a finding


def missing_atheris() -> str:
    """Why there is nothing to fuzz with, as a sentence; "" if there is."""
    done = subprocess.run(
        [sys.executable, "-c", "import atheris"], capture_output=True, text=True, check=False, timeout=60
    )
    if done.returncode == 0:
        return ""
    version = ".".join(map(str, sys.version_info[:2]))
    return (
        f"atheris, which fuzzes by coverage, is not installed for Python {version}: type "
        "'.venv/bin/pip install \"clew[fuzz]\"' (it is there for Linux and Python 3.11 to 3.13); "
        "the corpus and its mutations are tried by make test all the same."
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Run. Returns: the exit status: 0 if every promise was kept, 1 if not, 2 for a wrong option."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.fuzz.run", description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--target", default="", help="names, separated by spaces; all of them by default")
    parser.add_argument("--seconds", type=float, default=60, help="for each target")
    parser.add_argument("--list", action="store_true", help="print the targets")
    parser.add_argument("--replay", nargs="+", metavar="FILE", help="try files with the one target, without atheris")
    options = parser.parse_args(arguments)
    names = options.target.split() or list(TARGETS)
    if unknown := [name for name in names if name not in TARGETS]:
        parser.error(f"there is no target {unknown[0]!r}; there are: {', '.join(TARGETS)}")
    if options.list:
        for name in names:
            print(f"{name:18}{TARGETS[name].what}")
        return 0
    if options.replay:
        if len(names) != 1:
            parser.error("--replay needs the --target that the files are for")
        return _replay(names[0], options.replay)
    if not options.seconds > 0:
        parser.error("--seconds is a number above 0")
    if sentence := missing_atheris():
        print(f"clew: {sentence}", file=sys.stderr)
        return 0
    return _fuzz_all(names, options.seconds)


def _replay(name: str, files: Sequence[str]) -> int:
    broken = 0
    for file in files:
        try:
            TARGETS[name].check(Path(file).read_bytes())
        except Exception:
            broken += 1
            print(f"{file}: breaks a promise of {name}")
            traceback.print_exc()
        else:
            print(f"{file}: {name} keeps its promises")
    return 1 if broken else 0


def _fuzz_all(names: list[str], seconds: float) -> int:
    results: list[Result] = []
    try:
        for number, name in enumerate(names, start=1):
            print(f"[{number}/{len(names)}] {name}: {TARGETS[name].what}", flush=True)
            results.append(_fuzz(name, seconds))
            _tell(results[-1])
    except KeyboardInterrupt:
        print("\ninterrupted")
    print(f"\n{'target':18}{'seconds':>9}{'inputs tried':>15}{'edges':>8}{'corpus':>8}")
    for result in results:
        end = "  BROKEN" if result.finding else ""
        print(f"{result.name:18}{result.seconds:9.0f}{result.runs:15,}{result.coverage:8,}{result.inputs:8,}{end}")
    broken = [result for result in results if result.finding]
    total = sum(result.runs for result in results)
    print(f"{len(results)} targets, {total:,} inputs, {len(broken)} with findings.")
    for result in broken:
        print(f"  {_how_to_replay(result)}")
    return 1 if broken or len(results) < len(names) else 0


def _fuzz(name: str, seconds: float) -> Result:
    """One target, in a process of its own, so that what it does to that stays there."""
    target = TARGETS[name]
    found, findings = _BUILD / "corpus" / name, _BUILD / "findings" / name
    found.mkdir(parents=True, exist_ok=True)
    findings.mkdir(parents=True, exist_ok=True)
    words = _BUILD / f"{name}.dict"
    words.write_text("".join(f'"{_escaped(word)}"\n' for word in target.words))
    before = set(findings.iterdir())
    command = [
        *(sys.executable, "-m", "tests.fuzz.child", name),
        *(f"-max_total_time={max(round(seconds), 1)}", f"-max_len={target.max_bytes}", f"-timeout={_SLOW_SECONDS}"),
        *(f"-rss_limit_mb={_MEMORY_MB}", f"-artifact_prefix={findings}/", "-print_final_stats=1"),
        *([f"-dict={words}"] if target.words else []),
        *(str(found), *([str(CORPUS / name)] if (CORPUS / name).is_dir() else [])),
    ]
    began = time.monotonic()
    shown = 0.0
    runs = coverage = inputs = 0
    said: list[str] = []
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace"
    ) as child:
        assert child.stdout is not None
        try:
            for line in child.stdout:
                if not line.startswith(("INFO", "[INFO]", "WARNING")):
                    said = [*said[-60:], line]
                if (match := _STATUS.match(line)) is None:
                    continue
                runs, coverage, _, inputs = map(int, match.groups())
                now = time.monotonic() - began
                if sys.stderr.isatty() and now - shown > 0.5:
                    shown = now
                    _progress(f"    {now:.0f} of {seconds:.0f} s, {runs:,} inputs, {coverage:,} edges")
                if now > seconds + _GRACE_SECONDS:
                    child.kill()
        except BaseException:  # Ctrl-C, for one
            child.terminate()
            raise
    _progress("")
    new = sorted(set(findings.iterdir()) - before)
    for line in said:
        if match := re.match(r"stat::number_of_executed_units:\s*(\d+)", line):
            runs = int(match[1])
    finding = new[0] if new else None
    if child.returncode and finding is None:
        finding = findings  # it ended without an input to blame
        said.append(f"ended with status {child.returncode}\n")
    return Result(name, time.monotonic() - began, runs, coverage, inputs, finding, "".join(said) if finding else "")


def _progress(text: str) -> None:
    if sys.stderr.isatty():
        print(f"\r\x1b[K{text}", end="", file=sys.stderr, flush=True)


def _tell(result: Result) -> None:
    if result.finding is None:
        return
    print(result.words.rstrip())
    print(f"    {_how_to_replay(result)}", flush=True)


def _how_to_replay(result: Result) -> str:
    if result.finding is None or result.finding.is_dir():
        return f"{result.name}: the process ended; its words are above"
    return (
        f"{result.name}: {result.finding} breaks a promise; again: "
        f".venv/bin/python -m tests.fuzz.run --target {result.name} --replay {result.finding}"
    )


def _escaped(word: str) -> str:
    """As libFuzzer's dictionaries want it."""
    return "".join(
        chr(byte) if 0x20 < byte < 0x7F and byte not in b'"\\' else f"\\x{byte:02x}"
        for byte in word.encode("utf-8", "surrogateescape")
    )


if __name__ == "__main__":
    os.environ.setdefault("PYTHONWARNINGS", "ignore")  # of instrumented modules
    sys.exit(main())
