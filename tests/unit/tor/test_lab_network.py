"""The way up: what can be told of it without a tor."""

from __future__ import annotations

from typing import TYPE_CHECKING

from clew.tor.lab_network import LabProgress, Reporter, _clear_caches

if TYPE_CHECKING:
    from pathlib import Path


def test_progress_never_goes_back() -> None:
    """A start that falls back to a slower way keeps what it has shown; nothing is said twice."""
    seen: list[LabProgress] = []
    report = Reporter(seen.append)
    for fraction, what in [(0.2, "a"), (0.2, "a"), (0.201, "a"), (0.85, "b"), (0.35, "c"), (0.9, "c"), (1.0, "ready")]:
        report(fraction, what)
    assert [(progress.fraction, progress.what) for progress in seen] == [
        (0.2, "a"),
        (0.85, "b"),
        (0.85, "c"),
        (0.9, "c"),
        (1.0, "ready"),
    ]
    assert all(progress.seconds >= 0 for progress in seen)


def test_nobody_listens() -> None:
    """No function, no call."""
    Reporter()(0.5, "a")


def test_caches_are_cleared(tmp_path: Path) -> None:
    """Keys and the torrc stay, everything else goes."""
    for name in ("keys", "diff-cache", "stats"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "file").touch()
    for name in ("torrc", "state", "cached-microdesc-consensus", "log"):
        (tmp_path / name).touch()
    _clear_caches(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["keys", "torrc"]
    assert (tmp_path / "keys" / "file").exists()
