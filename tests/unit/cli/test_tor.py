"""`clew tor attach`: its options and its sentences, without a tor."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import pytest

from clew.cli import tor_attach, tor_connection, tor_connection_options, tor_record, tor_sessions
from clew.cli.main import main
from clew.cli.tor_attach import Options
from clew.cli.tor_sessions import Connection
from clew.cli.tor_traces import Counts
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
    monkeypatch.delenv(tor_connection_options.PASSWORD_VARIABLE, raising=False)
    tor_connection_options._ask.cache_clear()
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
    monkeypatch.setenv(tor_connection_options.PASSWORD_VARIABLE, "from the environment")
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


# --- recording ------------------------------------------------------------------------------------------------------


@pytest.fixture
def recorded(monkeypatch: pytest.MonkeyPatch) -> list[tor_record.Options]:
    """What `record` is called with, instead of being called."""
    options: list[tor_record.Options] = []

    def record(given: tor_record.Options) -> int:
        options.append(given)
        return 0

    monkeypatch.setattr(tor_record, "record", record)
    return options


def test_record_options(recorded: list[tor_record.Options]) -> None:
    """Everything that can be said, and nothing."""
    arguments = "x.log --control 9151 --cookie-file c --events circ_bw,GUARD --json"
    assert main(["tor", "record", *arguments.split()]) == 0
    assert main(["tor", "record", "y.log"]) == 0
    first, second = recorded
    password = first.connection.password
    assert first == tor_record.Options(Connection("9151", password, "c"), "x.log", ("CIRC_BW", "GUARD"), True)
    assert second == tor_record.Options(Connection(None, password, None), "y.log")


@pytest.mark.parametrize("arguments", [[], ["x.log", "--events", ""], ["x.log", "--events", "CIRC;NS"]])
def test_record_refused(capsys: pytest.CaptureFixture[str], arguments: list[str]) -> None:
    """Without a file, or with what cannot be events, the command is refused."""
    with pytest.raises(SystemExit) as caught:
        main(["tor", "record", *arguments])
    assert caught.value.code == 2


@pytest.mark.parametrize("name", ["HS_DESC_CONTENT", "conf_changed"])
def test_what_is_never_recorded(capsys: pytest.CaptureFixture[str], tmp_path: Path, name: str) -> None:
    """Events with secrets in them are not recorded, even if they are asked for."""
    path = tmp_path / "x.log"
    assert main(["tor", "record", str(path), "--events", f"GUARD,{name}", "--control", "127.0.0.1:1"]) == 1
    assert capsys.readouterr().err.startswith(f"clew: {name.upper()} is never recorded")
    assert not path.exists()


@pytest.mark.parametrize("action", ["record", "replay"])
def test_help_of_logs(capsys: pytest.CaptureFixture[str], action: str) -> None:
    """The help has examples, and that of recording warns."""
    with pytest.raises(SystemExit) as caught:
        main(["tor", action, "--help"])
    assert caught.value.code == 0
    said = capsys.readouterr().out
    assert f"clew tor {action} tor.log" in said
    assert ("keep it private" in said) == (action == "record")


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
    """Counts of several runs add up; what was lost, or is seldom, is shown only if there was some."""
    first = Counts(circuits=3, circuits_built=2, circuits_failed=1, streams=2, streams_done=2, spans=8)
    second = Counts(circuits=4, circuits_building=1, circuits_open=2, circuits_built=1003, streams_open=1, spans=9)
    assert str(first + second) == (
        "circuits: 1 building, 2 open, 1,005 built, 1 failed; streams: 1 open, 2 done, 0 failed; 17 spans written"
    )
    lost = Counts(
        circuits_lost=1, streams_lost=2, streams_cancelled=3, onion_connections=4, spans_lost=5, events_lost=6
    )
    assert str(lost) == (
        "circuits: 0 building, 0 open, 0 built, 0 failed, 1 lost; "
        "streams: 0 open, 0 done, 0 failed, 3 cancelled, 2 lost; onion connections: 4; "
        "0 spans written, 5 spans NOT written, 6 events lost"
    )


def test_waits_grow(monkeypatch: pytest.MonkeyPatch) -> None:
    """A tor that is gone is tried again after waits that grow to 15 s."""
    waits: list[float] = []

    def sleep(seconds: float) -> None:
        waits.append(seconds)
        if len(waits) == 8:
            raise KeyboardInterrupt

    monkeypatch.setattr("time.sleep", sleep)
    begin: Callable[..., object] = tor_sessions._begin_again
    with pytest.raises(KeyboardInterrupt):
        begin(Connection("127.0.0.1:1"), "127.0.0.1:1", None)
    assert waits == [0.5, 1, 2, 4, 8, 15, 15, 15]
