"""Errors say what happened, to which host, after how many attempts, and what to do; the page quotes them."""

from __future__ import annotations

import pytest
from error_texts import PAGE, TEXTS, Text, paragraph


@pytest.mark.parametrize("row", TEXTS, ids=lambda row: row.make.__name__)
async def test_the_page_quotes_it(row: Text) -> None:
    """Each error is made, and docs/troubleshooting.md has its text as it is (`make docs` writes it)."""
    assert await paragraph(row) in PAGE.read_text(encoding="utf-8")


def test_the_page_has_nothing_else() -> None:
    """A text that no error has any more goes from the page too."""
    lines = PAGE.read_text(encoding="utf-8").splitlines()
    assert sum(line.startswith("> ") for line in lines) == len(TEXTS)
