"""The way up: what can be told of it without a tor."""

from __future__ import annotations

from typing import TYPE_CHECKING

from clew.tor.lab_network import _clear_caches

if TYPE_CHECKING:
    from pathlib import Path


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
