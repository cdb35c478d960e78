"""What a server wrote, for texts: bounded, and without anything that a terminal or a log would obey."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable

MESSAGE = 200
MESSAGES = 3


def quoted(text: str, limit: int = MESSAGE) -> str:
    """The text with control characters escaped, cut after so many characters."""
    kept = text[:limit]
    if not kept.isprintable():
        kept = "".join(each if each.isprintable() else ascii(each)[1:-1] for each in kept)
    return kept if len(text) <= limit else f"{kept}…"


def words_of(json: Any, secrets: Iterable[str] = ()) -> str | None:
    """What a body that is no GraphQL answer says: the messages of its errors, or its one message.

    None where it says nothing. Secrets of ours that a server repeats are left out.
    """
    if not isinstance(json, dict):
        return None
    errors = json.get("errors")
    found = [_message(each) for each in (errors if isinstance(errors, list) else [errors])]
    found += [json.get(key) for key in ("error_message", "error_description", "error", "message")]
    messages = list(dict.fromkeys(each for each in found if isinstance(each, str) and each.strip()))
    if not messages:
        return None
    shown = "; ".join(f'"{quoted(_without(each, secrets))}"' for each in messages[:MESSAGES])
    more = len(messages) - MESSAGES
    return f"{shown}; and {more} more" if more > 0 else shown


def _message(error: Any) -> Any:
    return error.get("message") if isinstance(error, dict) else error


def _without(text: str, secrets: Iterable[str]) -> str:
    for secret in secrets:
        text = text.replace(secret, "…")
    return text
