"""One target under atheris, with libFuzzer's options: `python -m tests.fuzz.child NAME [OPTION...] [FOLDER...]`.

What is fuzzed is instrumented when it is imported, so nothing of clew may be loaded before.
"""

from __future__ import annotations

import sys

import atheris

if __name__ == "__main__":
    name = sys.argv.pop(1)
    # Beginnings and ends that texts are asked for tell what to try. (Its hook for patterns fails on some of ours.)
    atheris.enabled_hooks.add("str")
    with atheris.instrument_imports(include=["clew"]):
        from tests.fuzz.targets import TARGETS
    atheris.Setup(sys.argv, TARGETS[name].check)
    atheris.Fuzz()
