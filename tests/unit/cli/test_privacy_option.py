"""`--privacy` as all commands have it."""

from __future__ import annotations

import argparse

import pytest

from clew.cli.privacy_option import add_privacy_options, privacy_of
from clew.errors import ConfigurationError
from clew.tor.privacy import Privacy


def level(*arguments: str) -> Privacy:
    parser = argparse.ArgumentParser()
    add_privacy_options(parser)
    return privacy_of(parser.parse_args(arguments))


def test_what_is_stored_is_pseudonymous_by_default() -> None:
    """Level 1, unless another is named by its number or its name."""
    assert level() is Privacy.PSEUDONYMOUS
    assert level("--privacy", "0") is Privacy.ANONYMOUS
    assert level("--privacy", "Operator") is Privacy.OPERATOR
    assert level("--privacy", "lab", "--public-network") is Privacy.LAB


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["--privacy", "4"], "there is no privacy level '4'"),
        (["--public-network"], "with --privacy lab only"),
        (["--privacy", "2", "--public-network"], "with --privacy lab only"),
    ],
)
def test_what_makes_no_sense_is_refused(arguments: list[str], reason: str) -> None:
    """One sentence says why."""
    with pytest.raises(ConfigurationError, match=reason):
        level(*arguments)
