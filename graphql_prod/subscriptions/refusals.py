"""What says that the credentials were refused: a close code, an error code, or plain words. No I/O."""

from __future__ import annotations

import logging
import re
from typing import TYPE_CHECKING, Any

from graphql_prod.subscriptions.policy import REFUSED_CLOSE_CODES, REFUSED_WORDS

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from graphql_prod.subscriptions.policy import RefusedCloses

logger: logging.Logger = logging.getLogger("graphql_prod")

CODE_KEYS = frozenset({"code", "errorCode", "errorType"})
"""Where an error has its code, in itself or in its ``extensions``."""

# What an error carries beside its words: long, and about something else.
_NO_WORDS = frozenset(
    {"data", "exception", "locations", "path", "query", "stack", "stackTrace", "stacktrace", "variables"}
)
# Words without meaning: "the token has expired" says "token expired".
_FILLERS = frozenset(
    {"a", "an", "and", "are", "be", "been", "had", "has", "have", "is", "or", "the", "was", "were", "your"}
)
_MOST_VALUES = 200
_MOST_CHARACTERS = 2000
_CAMEL = re.compile(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])")
_WORD = re.compile(r"[^\W_]+")


class Refusals:
    """Judges what a server says when it ends a connection or a subscription.

    :param closes: close codes that refuse the credentials, or a predicate over code and reason.
    :param words: phrases that refuse them in prose; compared as words, without case.
    :param codes: error codes that refuse them.
    """

    __slots__ = ("_closes", "_codes", "_phrases")

    def __init__(self, closes: RefusedCloses, words: Iterable[str], codes: Iterable[str]) -> None:
        self._closes = closes
        self._codes = frozenset(codes)
        phrases = {form for text in (*words, *self._codes) for form in _forms(text)}
        self._phrases = tuple(phrase for phrase in phrases if phrase.strip())

    def in_close(self, code: int | None, reason: str | None) -> str | None:
        """What of a close frame says that the credentials were refused, in our words; None: nothing."""
        if self._by_code(code, reason):
            return f"the close code {code} says so"
        if reason and self._by_text(reason):
            return "the reason of the close says so"
        return None

    def in_payload(self, payload: object) -> bool:
        """Whether an error says so, whatever its shape: by its code, or in its words."""
        return any(
            text in self._codes if is_code else self._by_text(text) for is_code, text in _strings(payload)
        )

    def _by_code(self, code: int | None, reason: str | None) -> bool:
        if not callable(self._closes):
            return code in self._closes
        try:
            return bool(self._closes(code, reason))
        except Exception:
            logger.exception("subscriptions.refused_close_codes failed; the close is judged without it")
            return False

    def _by_text(self, text: str) -> bool:
        return any(phrase in form for form in _forms(text) for phrase in self._phrases)


def _forms(text: str) -> tuple[str, str]:
    """The words of a text in lower case, between blanks; once more with JWTExpired as two words."""
    text = text[:_MOST_CHARACTERS]
    return _plain(text), _plain(_CAMEL.sub(" ", text))


def _plain(text: str) -> str:
    words = (word for word in _WORD.findall(text.lower()) if word not in _FILLERS)
    return f" {' '.join(words)} "


def _strings(payload: object) -> Iterator[tuple[bool, str]]:
    """Every text in a payload that may say so, and whether it is a code."""
    left: list[tuple[bool, Any]] = [(False, payload)]
    for _ in range(_MOST_VALUES):
        if not left:
            return
        is_code, value = left.pop()
        if isinstance(value, str) or (is_code and isinstance(value, int)):
            yield is_code, str(value)
        elif isinstance(value, list):
            left += [(is_code, each) for each in value[:_MOST_VALUES]]
        elif isinstance(value, dict):
            left += [(key in CODE_KEYS, each) for key, each in value.items() if key not in _NO_WORDS]


DEFAULT = Refusals(REFUSED_CLOSE_CODES, REFUSED_WORDS, ())
"""By the policy's defaults alone."""
