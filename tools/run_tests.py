"""Runs every test: the unit tests and their like in one process, beside those that mostly wait for tor in another.

What the first has to say comes when the second is done. Ctrl-C ends both. The exit status is 0 if both passed.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PYTEST = [sys.executable, "-m", "pytest", "--durations=5"]
SLOW = ["tests/faults", "tests/integration"]  # all other folders are quick


def main() -> int:
    """Returns: the exit status."""
    folders = {"tests/" + path.relative_to(ROOT / "tests").parts[0] for path in ROOT.glob("tests/*/**/test_*.py")}
    quick = sorted(folders.difference(SLOW))
    log = ROOT / "build" / "quick-tests.log"
    log.parent.mkdir(exist_ok=True)
    with log.open("w") as output:
        beside = subprocess.Popen([*PYTEST, "-q", *quick], cwd=ROOT, stdout=output, stderr=output)
        try:
            slow_status = subprocess.run([*PYTEST, *SLOW], cwd=ROOT, check=False).returncode
            quick_status = beside.wait()
        except KeyboardInterrupt:
            beside.wait()  # it got the signal too
            return 130
    print(log.read_text(), flush=True)
    return slow_status or quick_status


if __name__ == "__main__":
    sys.exit(main())
