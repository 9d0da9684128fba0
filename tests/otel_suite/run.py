"""Runs OpenTelemetry's own tests with the stock SDK and with clew's provider, and compares: `make otel-suite`.

Of the SDK's tests for tracing, at least 95 % of those that apply are to pass; of those of the instrumentations that
pass with the stock SDK on this machine, at least 98 %. Only tests that came to clew's provider are counted: what the
SDK does alone passes anyway. Which of the SDK's do not apply, and why, is in not_applicable.toml.

A test that fails, with either provider, is tried twice more: several wait for some milliseconds only.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tomllib
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
PLACE = ROOT / "build" / "otel-suite"
SDK_SHARE = 0.95
CONTRIB_SHARE = 0.98
# What of each source distribution is run: all of tracing of the SDK, and all of an instrumentation.
SDK_TESTS = ("tests/trace", "tests/context/test_asyncio.py")
LIMIT_SECONDS = 300

Results = dict[str, dict[str, Any]]


@dataclass
class Figures:
    """What became of the tests of one source distribution."""

    name: str
    collected: int = 0
    baseline: int = 0  # pass with the stock SDK
    elsewhere: int = 0  # of these, come to no provider
    excluded: dict[str, list[str]] = field(default_factory=dict)  # by reason
    passed: int = 0
    failed: dict[str, str] = field(default_factory=dict)
    stale: list[str] = field(default_factory=list)

    @property
    def counted(self) -> int:
        return self.passed + len(self.failed)

    @property
    def share(self) -> float:
        return self.passed / self.counted if self.counted else 0.0


def run(folder: Path, provider: str, chosen: list[str]) -> Results:
    """The tests of a source distribution, with the provider of `sdk` or of `clew`."""
    work = PLACE / "results"
    work.mkdir(exist_ok=True)
    results, reached = work / f"{folder.name}-{provider}.json", work / f"{folder.name}-{provider}.reached"
    for old in (results, reached):
        old.unlink(missing_ok=True)
    environment = dict(
        os.environ,
        CLEW_OTEL_SUITE=provider,
        CLEW_OTEL_SUITE_REACHED=str(reached),
        CLEW_OTEL_SUITE_RESULTS=str(results),
        PATH=f"{PLACE / 'venv' / 'bin'}{os.pathsep}{os.environ['PATH']}",
        PYTHONPATH=os.pathsep.join(map(str, (HERE / "site", HERE, ROOT / "src"))),
        PYTHONDONTWRITEBYTECODE="1",
    )
    for name in [name for name in environment if name.startswith("OTEL_")]:
        del environment[name]
    options = ["-q", "-c", os.devnull, "--rootdir=.", "-p", "no:cacheprovider", "-p", "plugin", "--timeout=60"]
    options += ["-o", "asyncio_default_fixture_loop_scope=function"]
    done = subprocess.run(
        [str(PLACE / "venv" / "bin" / "python"), "-m", "pytest", *options, *chosen],
        cwd=folder,
        env=environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=LIMIT_SECONDS,
        check=False,
    )
    (work / f"{folder.name}-{provider}.log").write_text(done.stdout + done.stderr)
    if not results.exists():
        sys.exit(f"clew: pytest did not finish in {folder}:\n{(done.stdout + done.stderr)[-2000:]}")
    found: Results = json.loads(results.read_text())
    return found


def persist(folder: Path, provider: str, chosen: list[str]) -> Results:
    """As `run`, and what failed again, up to twice."""
    results = run(folder, provider, chosen)
    for _ in range(2):
        failed = [test for test, result in results.items() if result["outcome"] == "failed" and "::" in test]
        if failed:
            results |= run(folder, provider, failed)
    return results


def compare(folder: Path, reasons: dict[str, str]) -> Figures:
    """Both runs of a source distribution.

    Args:
        reasons: why a test does not apply, by its id.
    """
    name = folder.name.rpartition("-")[0].replace("opentelemetry_", "").replace("instrumentation_", "")
    chosen = list(SDK_TESTS) if name == "sdk" else ["tests"]
    before, after = (persist(folder, provider, chosen) for provider in ("sdk", "clew"))
    figures = Figures(name, len(before), sum(each["outcome"] == "passed" for each in before.values()))
    for test, result in before.items():
        if result["outcome"] != "passed":
            continue
        now = after.get(test, {"outcome": "failed", "reached": True, "why": "it was not collected"})
        reason = reasons.pop(f"{name}::{test}", None)
        if reason is not None:
            figures.excluded.setdefault(reason, []).append(test)
            if now["outcome"] == "passed":
                figures.stale.append(test)
        elif now["outcome"] != "passed":
            figures.failed[test] = now["why"] or now["outcome"]
        elif now["reached"]:
            figures.passed += 1
        else:
            figures.elsewhere += 1
    return figures


def show(figures: Figures, *, verbose: bool) -> None:
    excluded = sum(map(len, figures.excluded.values()))
    print(
        f"{figures.name:<11} {figures.collected:>9} {figures.baseline:>9} {figures.elsewhere:>9} {excluded:>9}"
        f" {figures.counted:>7} {figures.passed:>6} {len(figures.failed):>6}  {figures.share:6.1%}"
    )
    if verbose:
        for test, why in figures.failed.items():
            print(f"    failed: {test}\n        {why.splitlines()[0] if why else ''}")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", help="only these: sdk, requests, urllib3, ...")
    parser.add_argument("-v", "--verbose", action="store_true", help="name each test that fails")
    arguments = parser.parse_args()
    listed = tomllib.loads((HERE / "not_applicable.toml").read_text())["reason"]
    reasons = {test: reason["why"] for reason in listed for test in reason["tests"]}
    if foreign := [test for test in reasons if not test.startswith("sdk::")]:
        sys.exit(f"clew: only tests of the SDK may be left out, not {foreign[0]}.")
    folders = sorted(each for each in (PLACE / "sources").iterdir() if each.is_dir())
    if arguments.names:
        wanted = {f"opentelemetry_instrumentation_{name}" for name in arguments.names} | {
            f"opentelemetry_{name}" for name in arguments.names
        }
        folders = [each for each in folders if each.name.rpartition("-")[0] in wanted]
    print("            collected    pass on     no        not                               share")
    print("                         the SDK  provider applicable counted passed failed")
    with ThreadPoolExecutor(2) as pool:
        every = list(pool.map(lambda folder: compare(folder, reasons), folders))
    sdk = [figures for figures in every if figures.name == "sdk"]
    contrib = [figures for figures in every if figures.name != "sdk"]
    for figures in sdk + contrib:
        show(figures, verbose=arguments.verbose)
    good = True
    for title, group, threshold in (
        ("The SDK's tests", sdk, SDK_SHARE),
        ("The instrumentations'", contrib, CONTRIB_SHARE),
    ):
        counted, passed = sum(each.counted for each in group), sum(each.passed for each in group)
        if counted:
            good = good and passed / counted >= threshold
            print(f"{title}: {passed} of {counted} pass, {passed / counted:.1%}; at least {threshold:.0%} are to.")
    for figures in every:
        for reason, tests in figures.excluded.items():
            print(f"Not applicable, {len(tests)} of {figures.name}: {reason}")
    stale = [f"{figures.name}::{test}" for figures in every for test in figures.stale]
    if stale:
        print("Listed as not applicable, and pass:", *stale, sep="\n    ")
    if reasons and not arguments.names:
        print("Listed, and not among the tests:", *reasons, sep="\n    ")
        good = False
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
