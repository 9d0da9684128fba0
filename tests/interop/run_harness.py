"""Runs W3C's trace-context harness against clew: `make interop HARNESS=DIR`.

DIR is a checkout of w3c/trace-context, whose folder test/ is the harness. It is no package that could be installed, and
it is not copied here; `test_trace_context.py` has a test of our own for each of its cases.
"""

from __future__ import annotations

import os
import re
import socket
import subprocess
import sys
from pathlib import Path

from tests.interop.trace_context_service import Service

_SECONDS = 300


def main(arguments: list[str]) -> int:
    """The exit status: 0 if the harness ran, and all its cases passed."""
    if len(arguments) != 1:
        print("usage: make interop HARNESS=DIR, with a checkout of w3c/trace-context", file=sys.stderr)
        return 2
    folder = Path(arguments[0]).expanduser().resolve()
    folder = folder if (folder / "tracecontext").is_dir() else folder / "test"
    if not (folder / "test.py").is_file():
        print(f"clew: there is no harness in {folder}: test.py of w3c/trace-context is missing.", file=sys.stderr)
        return 2
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    with Service() as service:
        done = subprocess.run(
            [sys.executable, "test.py", service.url],
            cwd=folder,
            env={**os.environ, "STRICT_LEVEL": "2", "SPEC_LEVEL": "2", "HARNESS_PORT": str(port)},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=_SECONDS,
            check=False,
        )
    print(done.stdout)
    ran = re.search(r"^Ran ([0-9]+) tests? in ", done.stdout, re.MULTILINE)
    count = int(ran[1]) if ran else 0
    passed = len(re.findall(r"\.\.\. ok$", done.stdout, re.MULTILINE))
    print(f"W3C trace context, level 2, strict: {passed} of {count}")
    return 0 if done.returncode == 0 and passed == count > 0 else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
