"""`clew tor doctor`: what it prints, and its exit status."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from clew.cli import tor_doctor
from clew.cli.main import main
from clew.tor.address import ControlAddress
from clew.tor.finding import Finding, Verdict

if TYPE_CHECKING:
    from collections.abc import Iterator

WELL = [
    Finding("control port", Verdict.OK, "127.0.0.1:9051 answers", facts={"address": "127.0.0.1:9051"}),
    Finding("circuit", Verdict.OK, "built in 71 ms", facts={"hops_ms": [1.5, 2.5]}),
]
DOUBTFUL = Finding("tor", Verdict.WARNING, "0.4.5.1 on the public network, old", "upgrade tor")
BROKEN = Finding("SOCKS port", Verdict.FAILED, "tor has none\x1b[2J", "set SocksPort 9050")


@pytest.fixture
def found(monkeypatch: pytest.MonkeyPatch) -> list[Finding]:
    """What an examination finds from now on."""
    found = [*WELL]

    class Examination:
        def __init__(self, *_: object, **given: object) -> None:
            self.given = given

        def findings(self) -> Iterator[Finding]:
            if self.given["socks"] is not None:
                yield Finding("given", Verdict.OK, str(self.given["socks"]))
            yield from found

    monkeypatch.setattr(tor_doctor, "Examination", Examination)
    return found


def test_a_tor_that_is_well(found: list[Finding], capsys: pytest.CaptureFixture[str]) -> None:
    """A line for each check; exit status 0."""
    assert main(["tor", "doctor"]) == 0
    output = capsys.readouterr()
    assert output.out == (
        "ok       control port    127.0.0.1:9051 answers\nok       circuit         built in 71 ms\nnothing is broken\n"
    )
    assert output.err == ""


def test_a_tor_that_is_not(found: list[Finding], capsys: pytest.CaptureFixture[str]) -> None:
    """What to do stands below; what tor said cannot move the cursor; exit status 1 only if something is broken."""
    found.append(DOUBTFUL)
    assert main(["tor", "doctor"]) == 0
    assert capsys.readouterr().out.splitlines()[2:] == [
        "warning  tor             0.4.5.1 on the public network, old",
        "                         -> upgrade tor",
        "nothing is broken; look at: tor",
    ]
    found.append(BROKEN)
    assert main(["tor", "doctor"]) == 1
    assert capsys.readouterr().out.splitlines()[4:] == [
        r"failed   SOCKS port      tor has none\x1b[2J",
        "                         -> set SocksPort 9050",
        "broken: SOCKS port; look at: tor",
    ]


def test_json(found: list[Finding], capsys: pytest.CaptureFixture[str]) -> None:
    """The same for programs."""
    found.append(BROKEN)
    assert main(["tor", "doctor", "--json"]) == 1
    told = json.loads(capsys.readouterr().out)
    assert told["healthy"] is False
    assert told["findings"][1] == {
        "check": "circuit",
        "verdict": "ok",
        "text": "built in 71 ms",
        "advice": "",
        "facts": {"hops_ms": [1.5, 2.5]},
    }
    assert [finding["verdict"] for finding in told["findings"]] == ["ok", "ok", "failed"]


def test_the_socks_port_is_given(found: list[Finding], capsys: pytest.CaptureFixture[str]) -> None:
    """As a port, host:port or a path."""
    for text in ("9050", "127.0.0.1:9050", "/run/tor/socks"):
        assert main(["tor", "doctor", "--socks", text]) == 0
        assert str(ControlAddress.parse(text)) in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--socks", "nine"], "'nine' is no address: give a port (9050)"),
        (["--timeout", "0"], "'0' is no number of seconds"),
        (["--timeout", "soon"], "'soon' is no number of seconds"),
    ],
)
def test_refused(arguments: list[str], words: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Exit status 2, and why."""
    with pytest.raises(SystemExit) as caught:
        main(["tor", "doctor", *arguments])
    assert caught.value.code == 2
    assert words in capsys.readouterr().err


def test_nothing_listens(capsys: pytest.CaptureFixture[str]) -> None:
    """That is a finding like others."""
    assert main(["tor", "doctor", "--control", "127.0.0.1:1"]) == 1
    output = capsys.readouterr()
    assert output.out.startswith("failed   control port    nothing listens on 127.0.0.1:1\n")
    assert "-> start tor with ControlPort 1 in its torrc" in output.out
    assert output.err == ""
