"""The blocks of the guide that bring up the lab run too."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.documents import PAGES, needs_lab, run_page

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.tor
@pytest.mark.parametrize("page", [page for page in PAGES if needs_lab(page)], ids=lambda page: page.name)
def test_the_code_of_a_page_runs_with_the_lab(page: Path, tmp_path: Path, environment: dict[str, str]) -> None:
    """All Python blocks of a page, run one after the other, end without a fault."""
    run_page(page, tmp_path, environment, lab=True)
