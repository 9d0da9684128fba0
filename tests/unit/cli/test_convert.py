"""clew.cli.convert: what was read comes back from what was written, and nothing is broken or replaced by accident."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from clew.cli.main import main
from clew.formats import TraceFile, records_of

if TYPE_CHECKING:
    from clew.model import SpanRecord

DATA = Path(__file__).parents[2] / "data" / "traces"


def read(path: Path) -> list[SpanRecord]:
    with TraceFile(str(path)) as file:
        return [record for records in records_of(file.items(), lambda _: None) for record in records]


@pytest.mark.parametrize("source", ["otlp.jsonl", "gotor.json"])
@pytest.mark.parametrize("name", ["out.jsonl", "out.pb", "out.binpb.gz", "out.jsonl.gz"])
def test_spans_come_back_equal(tmp_path: Path, source: str, name: str) -> None:
    """Every format that is read is written as OTLP, whole, for its owner only."""
    out = tmp_path / name
    assert main(["convert", str(DATA / source), str(out)]) == 0
    assert read(out) == read(DATA / source)
    assert out.stat().st_mode & 0o777 == 0o600
    assert list(tmp_path.iterdir()) == [out]


def test_an_existing_file_stays(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A file is replaced only with --force; the counts can be had as JSON."""
    out = tmp_path / "out.pb"
    out.write_bytes(b"mine")
    assert main(["convert", str(DATA / "otlp.jsonl"), str(out)]) == 1
    assert out.read_bytes() == b"mine"
    capsys.readouterr()
    assert main(["convert", str(DATA / "otlp.jsonl"), str(out), "--force", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["spans"] == len(read(out)) == 5


def test_an_error_leaves_nothing(tmp_path: Path) -> None:
    """When the input cannot be read, no file is left, not even a part of one."""
    assert main(["convert", "/dev/null/none", str(tmp_path / "out.pb")]) == 1
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("arguments", [["-", "-", "x.pb"], ["a", "x.txt"], ["a", "-", "--json", "--to", "pb"]])
def test_wrong_options(arguments: list[str]) -> None:
    """What cannot work is refused before anything is read."""
    with pytest.raises(SystemExit, match="2"):
        main(["convert", *arguments])
