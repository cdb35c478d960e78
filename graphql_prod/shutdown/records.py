"""Log records of a shutdown."""

from __future__ import annotations

import contextlib
import logging
from typing import Any

logger: logging.Logger = logging.getLogger("graphql_prod")


def log_safely(level: int, text: str, *facts: object, **options: Any) -> None:
    """Log. A filter or handler of the program's that raises does not keep the shutdown from going on."""
    with contextlib.suppress(Exception):
        logger.log(level, text, *facts, **options)
