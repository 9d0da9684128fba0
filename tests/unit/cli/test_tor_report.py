"""`clew tor report`: its options, what it reads, where it writes."""

from __future__ import annotations

import gzip
import json
import re
import stat
import sys
from io import BytesIO, TextIOWrapper
from typing import TYPE_CHECKING

import pytest

from clew import FileExporter, Tracer
from clew.cli.main import main
from clew.tor.privacy import LEVEL_ATTRIBUTE, Privacy
from tests.tor_samples import TorSamples

if TYPE_CHECKING:
    from pathlib import Path


def write(path: Path, requests: int = 30, seed: int = 1, privacy: Privacy = Privacy.LAB) -> str:
    """A file of samples. Returns: its path."""
    resource = {LEVEL_ATTRIBUTE: privacy.name.lower()}
    with Tracer("crawler", FileExporter(path), resource=resource) as tracer:
        TorSamples(tracer, seed, privacy).run(requests)
    return str(path)


@pytest.fixture
def file(tmp_path: Path) -> str:
    """Thirty requests, recorded at level 3."""
    return write(tmp_path / "traces.jsonl")


def run_json(capsys: pytest.CaptureFixture[str], *arguments: str) -> dict[str, object]:
    """What --json prints."""
    assert main(["tor", "report", "--json", *arguments]) == 0
    document: dict[str, object] = json.loads(capsys.readouterr().out)
    return document


def test_on_the_terminal(file: str, capsys: pytest.CaptureFixture[str]) -> None:
    """The numbers, then the three slowest requests; plain where it is piped."""
    assert main(["tor", "report", file]) == 0
    output, error = capsys.readouterr()
    assert "30 requests in " in output
    assert re.findall(r"^no. (\d)", output, re.MULTILINE) == ["1", "2", "3"]
    assert "\x1b" not in output
    assert error == ""


def test_options_of_the_terminal(file: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Colour and width as for clew view; as many slow requests as are asked for."""
    assert main(["tor", "report", file, "--color", "always", "--width", "80", "--limit", "1"]) == 0
    output = capsys.readouterr().out
    assert "\x1b[" in output
    plain = re.sub(r"\x1b\[[\d;]*m", "", output)
    assert max(map(len, plain.splitlines())) == 80
    assert len(re.findall(r"^no. ", plain, re.MULTILINE)) == 1


def test_as_json(file: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Everything as it was recorded, unless one asks for less."""
    document = run_json(capsys, file)
    assert document["privacy_level"] is None
    assert "vww6ybal4bd7" in json.dumps(document)
    document = run_json(capsys, file, "--privacy", "0")
    assert document["privacy_level"] == "anonymous"
    text = json.dumps(document)
    assert "vww6ybal4bd7" not in text
    assert "traces.jsonl" not in text


def test_a_page(file: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """At level 0, for its owner alone, over what was there."""
    page = tmp_path / "report.html"
    assert main(["tor", "report", file, "--html", str(page)]) == 0
    output, error = capsys.readouterr()
    assert output == ""
    assert re.fullmatch(rf"clew: {page}: 30 requests, privacy level 0 \(anonymous\), \d+ KiB, for any browser\n", error)
    assert stat.S_IMODE(page.stat().st_mode) == 0o600
    first = page.read_text()
    assert first.startswith("<!doctype html>")
    assert "vww6ybal4bd7" not in first
    assert main(["tor", "report", file, "--html", str(page), "--privacy", "lab", "--limit", "1"]) == 0
    second = page.read_text()
    assert "vww6ybal4bd7" in second
    assert second.endswith("</html>\n")
    assert second.count('class="request"') == 1


def test_a_page_and_json(file: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Both at once, each at its own level."""
    document = run_json(capsys, file, "--html", str(tmp_path / "r.html"))
    assert document["privacy_level"] is None
    assert "privacy level 0: anonymous" in (tmp_path / "r.html").read_text()


def test_no_page_through_a_link(file: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A symbolic link in place of the page is not followed."""
    (tmp_path / "r.html").symlink_to(tmp_path / "elsewhere")
    assert main(["tor", "report", file, "--html", str(tmp_path / "r.html")]) == 1
    assert capsys.readouterr().err.startswith(f"clew: {tmp_path / 'r.html'}: ")
    assert not (tmp_path / "elsewhere").exists()


def test_never_more_than_was_recorded(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Of files of several levels, the lowest is the one that is shown."""
    files = [write(tmp_path / "a", privacy=Privacy.LAB), write(tmp_path / "b", privacy=Privacy.PSEUDONYMOUS)]
    document = run_json(capsys, *files, "--privacy", "3")
    assert document["privacy_level"] == "pseudonymous"
    assert "vww6ybal4bd7" not in json.dumps(document)


def test_before_and_after(file: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Groups of files, compared."""
    others = [write(tmp_path / name, 20, seed) for seed, name in ((2, "b.jsonl"), (3, "c.jsonl"))]
    document = run_json(capsys, file, "--before", others[0], "--before", others[1])
    counts = [document[group]["requests"]["total"] for group in ("findings", "before")]  # type: ignore[index]
    assert counts == [30, 40]
    assert document["changes"]


def test_the_programs_spans_in_another_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """What belongs together is found in two files, whichever is named first."""
    lines = [json.loads(line) for line in (tmp_path / write(tmp_path / "all", 40)).read_text().splitlines()]
    for name, is_tors in (("tor", True), ("program", False)):
        with (tmp_path / name).open("w") as file:
            for line in lines:
                copy = json.loads(json.dumps(line))
                scope = copy["resourceSpans"][0]["scopeSpans"][0]
                scope["spans"] = [span for span in scope["spans"] if span["name"].startswith("tor.") == is_tors]
                file.write(json.dumps(copy) + "\n")
    together = run_json(capsys, str(tmp_path / "all"))["findings"]
    for names in (("tor", "program"), ("program", "tor")):
        apart = run_json(capsys, *(str(tmp_path / name) for name in names))["findings"]
        assert apart["requests"] == together["requests"]  # type: ignore[index]
        assert apart["figures"] == together["figures"]  # type: ignore[index]


def test_compressed_and_piped(
    file: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """As clew view reads files: gzip, standard input."""
    (tmp_path / "traces.gz").write_bytes(gzip.compress((tmp_path / "traces.jsonl").read_bytes()))
    assert run_json(capsys, str(tmp_path / "traces.gz"))["findings"]["spans"] > 100  # type: ignore[index]
    with (tmp_path / "traces.jsonl").open() as stream:
        monkeypatch.setattr(sys, "stdin", stream)
        document = run_json(capsys, "-")
    assert document["findings"]["files"] == ["standard input"]  # type: ignore[index]


def test_damage(file: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """What can be read is reported on, and what cannot is named, on the page too."""
    with (tmp_path / "traces.jsonl").open("a") as stream:
        stream.write("this is no JSON\n")
    page = tmp_path / "r.html"
    assert main(["tor", "report", file, "--html", str(page)]) == 0
    assert f"clew: {file}: 1 damaged line left out: line " in capsys.readouterr().err
    assert "1 damaged line left out" in page.read_text()


def test_files_that_cannot_be_read(file: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The others are reported on; the exit status says that something was missing."""
    (tmp_path / "picture").write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(100))
    assert main(["tor", "report", file, str(tmp_path / "none"), str(tmp_path / "picture")]) == 1
    output, error = capsys.readouterr()
    assert "30 requests" in output
    assert f"clew: {tmp_path}/none: No such file or directory\n" in error
    assert f"clew: {tmp_path}/picture: " in error


@pytest.mark.parametrize("options", [[], ["--json"], ["--html", "r.html"]])
def test_an_empty_file(
    options: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It says so, in every form; the exit status is 1, as where nothing was found."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty.jsonl").touch()
    assert main(["tor", "report", "empty.jsonl", *options]) == 1
    output = capsys.readouterr().out
    if "--json" in options:
        assert json.loads(output)["findings"]["spans"] == 0
    elif options:
        assert "There is nothing to report" in (tmp_path / "r.html").read_text()
    else:
        assert "There is nothing to report" in output


@pytest.mark.parametrize("arguments", [[], ["a", "--limit", "101"], ["a", "--limit", "-1"], ["-", "--before", "-"]])
def test_refused(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    """Exit status 2, and how it is to be used."""
    with pytest.raises(SystemExit) as caught:
        main(["tor", "report", *arguments])
    assert caught.value.code == 2
    assert "usage: clew tor report" in capsys.readouterr().err


def test_an_unknown_level(capsys: pytest.CaptureFixture[str]) -> None:
    """One sentence."""
    assert main(["tor", "report", "a", "--privacy", "none"]) == 1
    assert capsys.readouterr().err.startswith("clew: there is no privacy level 'none'")


def test_help(capsys: pytest.CaptureFixture[str]) -> None:
    """With examples."""
    with pytest.raises(SystemExit) as caught:
        main(["tor", "report", "--help"])
    assert caught.value.code == 0
    assert "clew tor report after.jsonl --before before.jsonl" in capsys.readouterr().out


def test_letters_that_the_terminal_lacks(file: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A terminal of ASCII gets ASCII."""
    stream = TextIOWrapper(BytesIO(), encoding="ascii")
    monkeypatch.setattr(sys, "stdout", stream)
    assert main(["tor", "report", file]) == 0
    stream.flush()
    assert stream.buffer.getvalue().isascii()
