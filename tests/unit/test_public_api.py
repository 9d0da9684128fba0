"""What `import clew` gives, and what it costs."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

import clew
import clew.testing

NOT_LOADED = {
    "asyncio",
    "http",
    "ssl",
    "sqlite3",
    "dataclasses",
    "inspect",
    "logging",
    "threading",
    "clew.tor",
    "clew.otel",
}


def test_every_public_name_is_there_and_listed() -> None:
    """`__all__` and the names without an underscore are the same; every one has a docstring."""
    public = {name for name in vars(clew) if not name.startswith("_")} | set(clew._LAZY)
    submodules = {name for name in public if f"clew.{name}" in sys.modules}
    # These are left by imports.
    assert public - submodules - {"annotations", "TYPE_CHECKING"} == set(clew.__all__) - {"__version__"}
    assert [
        name for name in clew.__all__ if name not in ("CURRENT", "__version__") and not getattr(clew, name).__doc__
    ] == []


def test_what_is_loaded_later_is_listed_too() -> None:
    """For who explores at a prompt, in a program that has used nothing yet."""
    code = "import clew; print(sorted(set(clew.__all__) - set(dir(clew))), 'FileExporter' in vars(clew))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["[]", "False"]


@pytest.mark.parametrize("module", ["model", "propagation", "protocols", "samplers", "testing", "tracer"])
def test_public_modules_declare_what_is_public(module: str) -> None:
    """`__all__` names what exists."""
    there = sys.modules[f"clew.{module}"]
    assert all(hasattr(there, name) for name in there.__all__)


def test_import_loads_little() -> None:
    """`import clew` loads nothing that is not clew's or Python's, and none of Python's that costs much."""
    code = (
        "import json, sys; before = set(sys.modules); import clew; new = set(sys.modules) - before;"
        "print(json.dumps([[name, getattr(sys.modules[name], '__file__', None)] for name in new]))"
    )
    done = subprocess.run([sys.executable, "-S", "-c", code], capture_output=True, text=True, env=_path(), check=True)
    loaded = dict(json.loads(done.stdout))
    assert not NOT_LOADED & set(loaded)
    assert [name for name, file in loaded.items() if file and "site-packages" in file] == []


def _path() -> dict[str, str]:
    """Without site-packages: an import of a third party's module would fail."""
    return {**os.environ, "PYTHONPATH": next(iter(clew.__path__)).removesuffix("/clew")}


def test_without_the_gil_it_is_refused() -> None:
    """One sentence that says what to do, before a compiled module would switch the GIL on for the whole program."""
    code = (
        "import sys\n"
        "sys._is_gil_enabled = lambda: False\n"
        "try:\n"
        "    import clew\n"
        "except ImportError as error:\n"
        "    print(error)\n"
        "print([name for name in sys.modules if name.startswith('clew._hot.')])\n"
    )
    done = subprocess.run([sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, check=True)
    sentence, compiled = done.stdout.splitlines()
    assert sentence.startswith("clew needs the GIL, and this Python runs without: start it with PYTHON_GIL=1")
    assert compiled == "[]"
    assert done.stderr == ""
