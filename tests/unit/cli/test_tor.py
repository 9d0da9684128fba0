"""`clew tor attach`: its options and its sentences, without a tor."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import pytest

from clew.cli import tor, tor_attach, tor_connection
from clew.cli.main import main
from clew.cli.tor_attach import Counts, Options
from clew.tor.privacy import Privacy

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


@pytest.fixture
def attached(monkeypatch: pytest.MonkeyPatch) -> list[Options]:
    """What `attach` is called with, instead of being called."""
    options: list[Options] = []

    def attach(given: Options) -> int:
        options.append(given)
        return 0

    monkeypatch.setattr(tor_attach, "attach", attach)
    monkeypatch.delenv(tor.PASSWORD_VARIABLE, raising=False)
    tor._ask.cache_clear()
    return options


def ask(options: Options) -> str:
    """What the question for the password gives."""
    assert callable(options.password)
    return options.password()


def test_options(attached: list[Options]) -> None:
    """Everything that can be said."""
    arguments = "--control 9151 --file x.jsonl --privacy 3 --public-network --cookie-file c --json"
    assert main(["tor", "attach", *arguments.split()]) == 0
    (options,) = attached
    assert options == Options("9151", "x.jsonl", Privacy.LAB, True, options.password, "c", True)


def test_defaults(attached: list[Options]) -> None:
    """A plain `clew tor attach` looks for a tor and keeps pseudonyms."""
    assert main(["tor", "attach"]) == 0
    (options,) = attached
    assert options == Options(None, "traces.jsonl", Privacy.PSEUDONYMOUS, False, options.password, None, False)


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--privacy", "secret"], "clew: there is no privacy level 'secret'; say 0 or anonymous"),
        (["--public-network"], "clew: --public-network means something with --privacy lab only: leave it out"),
        (["--password-file", "/nowhere/file"], "clew: /nowhere/file: No such file or directory"),
    ],
)
def test_wrong_options(
    attached: list[Options], capsys: pytest.CaptureFixture[str], arguments: list[str], sentence: str
) -> None:
    """A wrong option is one sentence and status 1."""
    assert main(["tor", "attach", *arguments]) == 1
    assert capsys.readouterr().err.startswith(sentence)
    assert attached == []


@pytest.mark.parametrize("arguments", [["tor"], ["tor", "attach", "--password", "x"]])
def test_refused(capsys: pytest.CaptureFixture[str], arguments: list[str]) -> None:
    """Without an action, or with a password for all to see, the command is refused."""
    with pytest.raises(SystemExit) as caught:
        main(arguments)
    assert caught.value.code == 2


@pytest.mark.parametrize("arguments", [["tor", "--help"], ["tor", "attach", "--help"]])
def test_help(capsys: pytest.CaptureFixture[str], arguments: list[str]) -> None:
    """The help has an example."""
    with pytest.raises(SystemExit) as caught:
        main(arguments)
    assert caught.value.code == 0
    assert "clew tor attach --control 9051" in capsys.readouterr().out


@pytest.mark.parametrize("content", ["open sesame", "open sesame\n", "open sesame\r\nnote: mine\n"])
def test_password_file(attached: list[Options], tmp_path: Path, content: str) -> None:
    """The first line of the file, without its end."""
    path = tmp_path / "password"
    path.write_bytes(content.encode())
    assert main(["tor", "attach", "--password-file", str(path)]) == 0
    assert attached[0].password == "open sesame"


def test_password_variable(attached: list[Options], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The environment variable; a file that is named goes before it."""
    monkeypatch.setenv(tor.PASSWORD_VARIABLE, "from the environment")
    path = tmp_path / "password"
    path.write_text("from the file")
    assert main(["tor", "attach"]) == 0
    assert main(["tor", "attach", "--password-file", str(path)]) == 0
    assert [options.password for options in attached] == ["from the environment", "from the file"]


def test_password_prompt(attached: list[Options], monkeypatch: pytest.MonkeyPatch) -> None:
    """Otherwise it is asked for, once, and only when it is needed."""
    asked: list[str] = []

    def getpass(prompt: str) -> str:
        asked.append(prompt)
        return "typed"

    monkeypatch.setattr("getpass.getpass", getpass)
    monkeypatch.setattr(sys.stdin, "isatty", lambda: True)
    assert main(["tor", "attach"]) == 0
    assert asked == []
    assert [ask(attached[0]), ask(attached[0])] == ["typed", "typed"]
    assert len(asked) == 1


@pytest.mark.parametrize("is_terminal", [False, True], ids=["no terminal", "end of input"])
def test_no_password(
    attached: list[Options], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], is_terminal: bool
) -> None:
    """Where nobody can be asked, it is said how else to give it."""

    def getpass(prompt: str) -> str:
        raise EOFError

    monkeypatch.setattr("getpass.getpass", getpass)
    monkeypatch.setattr(sys.stdin, "isatty", lambda: is_terminal)

    def attach(options: Options) -> int:
        ask(options)
        return 0

    monkeypatch.setattr(tor_attach, "attach", attach)
    assert main(["tor", "attach"]) == 1
    assert capsys.readouterr().err.startswith("clew: tor asks for its control password: give")


# --- finding a tor --------------------------------------------------------------------------------------------------


def test_no_tor(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """Where no tor listens at any of the usual places, they are named."""
    monkeypatch.setattr(tor_connection, "_ADDRESSES", (f"{tmp_path}/control", "127.0.0.1:1", "127.0.0.1:2"))
    assert main(["tor", "attach", "--file", str(tmp_path / "x.jsonl")]) == 1
    assert capsys.readouterr().err == (
        f"clew: no tor answers at {tmp_path}/control, 127.0.0.1:1 or 127.0.0.1:2: "
        "start one with ControlPort 9051 and CookieAuthentication 1 in its torrc, or give --control\n"
    )
    assert not (tmp_path / "x.jsonl").exists()


def test_socket_that_does_not_answer(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """If there is a socket, what is wrong with it is said, and no other place is tried."""
    path = tmp_path / "control"
    path.touch()
    monkeypatch.setattr(tor_connection, "_ADDRESSES", (str(path), "127.0.0.1:1"))
    assert main(["tor", "attach"]) == 1
    assert capsys.readouterr().err.startswith(f"clew: nothing listens on {path}: start tor with ControlSocket {path}")


def test_counts() -> None:
    """Counts of several connections add up; what was lost is shown only if something was."""
    first = Counts(circuits=3, built=2, failed=1, spans=8)
    second = Counts(circuits=4, building=1, open=2, built=3, spans=9)
    assert str(first + second) == "circuits: 1 building, 2 open, 5 built, 1 failed, 17 spans written"
    assert str(Counts(lost=1, spans_lost=2, events_lost=3)) == (
        "circuits: 0 building, 0 open, 0 built, 0 failed, 1 lost, 0 spans written, 2 spans NOT written, 3 events lost"
    )


def test_waits_grow(monkeypatch: pytest.MonkeyPatch) -> None:
    """A tor that is gone is tried again after waits that grow to 15 s."""
    waits: list[float] = []

    def sleep(seconds: float) -> None:
        waits.append(seconds)
        if len(waits) == 8:
            raise KeyboardInterrupt

    monkeypatch.setattr("time.sleep", sleep)
    begin: Callable[..., object] = tor_attach._begin_again
    with pytest.raises(KeyboardInterrupt):
        begin("127.0.0.1:1", Options("127.0.0.1:1", "x"), None)
    assert waits == [0.5, 1, 2, 4, 8, 15, 15, 15]
