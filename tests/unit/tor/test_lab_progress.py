"""What a lab tells of its way up."""

from __future__ import annotations

from clew.tor.lab_progress import LabProgress, Reporter


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
