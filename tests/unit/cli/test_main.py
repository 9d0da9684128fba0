"""clew.cli.main: the table of commands, quick start, errors in one sentence."""

from __future__ import annotations

import subprocess
import sys
from types import ModuleType
from typing import TYPE_CHECKING

import pytest

from clew import __version__
from clew.cli import main as cli
from clew.cli.main import COMMANDS, Command, main
from clew.errors import ClewError

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch) -> Callable[[BaseException | int], None]:
    """Puts a command `test` into the table that raises or returns what it is given."""

    def install(outcome: BaseException | int) -> None:
        def run(args: argparse.Namespace) -> int:
            if isinstance(outcome, BaseException):
                raise outcome
            return outcome

        module = ModuleType("clew_test_command")
        module.configure = lambda parser: parser.add_argument("--flag", action="store_true")  # type: ignore[attr-defined]
        module.run = run  # type: ignore[attr-defined]
        monkeypatch.setitem(sys.modules, "clew_test_command", module)
        monkeypatch.setitem(COMMANDS, "test", Command("clew_test_command", "a test"))

    return install


def test_help_names_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    """The table alone makes the help; each command has its line."""
    with pytest.raises(SystemExit) as ended:
        main(["--help"])
    assert ended.value.code == 0
    text = capsys.readouterr().out
    for name, command in COMMANDS.items():
        assert f"    {name} " in text
        assert command.help in text
    assert "example:" in text


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    """`clew --version` tells the version."""
    with pytest.raises(SystemExit) as ended:
        main(["--version"])
    assert ended.value.code == 0
    assert capsys.readouterr().out == f"clew {__version__}\n"


@pytest.mark.parametrize("arguments", [["--version"], ["--help"], ["view", "--help"]])
def test_start_loads_little(arguments: list[str]) -> None:
    """What only running needs is not loaded before it: modules are counted, seconds depend on the machine."""
    code = (
        "import sys\n"
        "from clew.cli.main import main\n"
        "try:\n    main(sys.argv[1:])\nexcept SystemExit:\n    pass\n"
        "print(*sys.modules, file=sys.stderr)\n"
    )
    done = subprocess.run([sys.executable, "-I", "-c", code, *arguments], capture_output=True, text=True, check=True)
    loaded = set(done.stderr.split())
    heavy = {"rich", "asyncio", "http", "ssl", "sqlite3", "dataclasses", "inspect", "logging", "hashlib", "tempfile"}
    assert loaded & heavy == set()
    assert not {name for name in loaded if name.startswith(("clew.tor", "clew.render", "clew.formats", "clew.demo"))}
    assert len(loaded) < 150


def test_no_command(capsys: pytest.CaptureFixture[str]) -> None:
    """Without a command, the help is shown, and the status says that nothing was done."""
    assert main([]) == 2
    assert "commands:" in capsys.readouterr().err


def test_unknown_command(capsys: pytest.CaptureFixture[str]) -> None:
    """A command that does not exist is refused with those that do."""
    with pytest.raises(SystemExit) as ended:
        main(["veiw"])
    assert ended.value.code == 2
    assert "invalid choice: 'veiw'" in capsys.readouterr().err


def test_status(command: Callable[[BaseException | int], None]) -> None:
    """The exit status is what the command returns."""
    command(1)
    assert main(["test", "--flag"]) == 1


@pytest.mark.parametrize(
    ("error", "status", "sentence"),
    [
        (ClewError("the relay is\x1b[2J down"), 1, "clew: the relay is\\x1b[2J down\n"),
        (FileNotFoundError(2, "No such file or directory", "a.jsonl"), 1, "clew: a.jsonl: No such file or directory\n"),
        (OSError("the socket is gone"), 1, "clew: the socket is gone\n"),
        (KeyboardInterrupt(), 130, ""),
        (
            ModuleNotFoundError("No module named 'rich'", name="rich.console"),
            1,
            "clew: this needs the package rich: pip install 'clew[cli]'\n",
        ),
    ],
)
def test_errors_are_one_sentence(
    error: BaseException,
    status: int,
    sentence: str,
    command: Callable[[BaseException | int], None],
    capsys: pytest.CaptureFixture[str],
) -> None:
    """No traceback: one sentence, escaped, on standard error, and an exit status."""
    command(error)
    assert main(["test"]) == status
    assert capsys.readouterr() == ("", sentence)


def test_a_bug_is_not_hidden(command: Callable[[BaseException | int], None]) -> None:
    """What nobody foresaw is not turned into a sentence."""
    command(ModuleNotFoundError("No module named 'other'", name="other"))
    with pytest.raises(ModuleNotFoundError):
        main(["test"])


def test_a_broken_pipe_is_quiet(
    command: Callable[[BaseException | int], None], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """When whoever reads the output goes away, the command ends as `cat` would, without a word."""
    discarded = []
    monkeypatch.setattr(cli, "_discard_output", lambda: discarded.append(True))
    command(BrokenPipeError())
    assert main(["test"]) == 141
    assert discarded
    assert capsys.readouterr() == ("", "")
