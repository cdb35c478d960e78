"""Settings in files: TOML, JSON and YAML, read strictly and within bounds."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from graphql_prod.errors import ConfigurationError, Problem
from graphql_prod.settings.names import from_texts

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

# Far more than settings need; a file beyond them is a mistake or an attack.
MAX_BYTES = 4 * 1024 * 1024
MAX_DEPTH = 32
MAX_VALUES = 100_000


def read_file(path: Path) -> tuple[dict[str, Any], list[Problem]]:
    """The settings of a file, and the keys that it gives twice.

    :raises ConfigurationError: it cannot be used at all.
    """
    parse = {".toml": _toml, ".json": _json, ".yaml": _yaml, ".yml": _yaml}.get(path.suffix.lower())
    if parse is None:
        raise _unusable(path, "its kind is not known; there are .toml, .json, .yaml and .yml")
    twice: list[str] = []
    try:
        values = parse(_text(path), twice)
        check_bounds(values)
    except UnicodeDecodeError:
        raise _unusable(path, "it is not UTF-8") from None
    except OSError as error:
        raise _unusable(path, f"it cannot be read: {error.strerror}") from None
    except (ValueError, RecursionError) as error:
        if isinstance(error, ConfigurationError):
            raise
        raise _unusable(path, f"it is no valid {path.suffix[1:].upper()}: {error}") from None
    if not isinstance(values, dict):
        raise _unusable(path, "it must hold a table of settings")
    return from_texts(values), [Problem(key, "is given twice; leave one of them out") for key in twice]


def check_bounds(values: object) -> None:
    """Look at all that is in a value, and no longer than its bounds allow: an alias in YAML may hold itself.

    :raises ValueError: it is too deep, or too much.
    """
    waiting: list[tuple[object, int]] = [(values, 0)]
    seen = 0
    while waiting:
        value, depth = waiting.pop()
        seen += 1
        if depth > MAX_DEPTH:
            raise ValueError(f"it is nested over {MAX_DEPTH} deep")
        if isinstance(value, Mapping | list | tuple | set | frozenset):
            if seen + len(waiting) + len(value) > MAX_VALUES:
                raise ValueError(f"it holds over {MAX_VALUES} values")
            inner = value.values() if isinstance(value, Mapping) else value
            waiting += [(each, depth + 1) for each in inner]


def keys_given_twice(text: str) -> list[str]:
    """The keys that JSON gives twice in one table; none where it is no JSON."""
    twice: list[str] = []
    try:
        _json(text, twice)
    except (ValueError, RecursionError):
        return []
    return twice


def _text(path: Path) -> str:
    if path.exists() and not path.is_file() and not path.is_dir():
        raise ValueError("it is no regular file")
    with path.open("rb") as file:
        raw = file.read(MAX_BYTES + 1)
    if len(raw) > MAX_BYTES:
        raise ValueError(f"it is over {MAX_BYTES // 1024 // 1024} MiB long")
    return raw.decode("utf-8-sig")


def _unusable(path: Path, problem: str) -> ConfigurationError:
    return ConfigurationError([Problem("the file", problem, shown(path))])


def shown(path: object) -> str:
    """A file's name for texts. What is no name but a file's content, which may hold secrets, is not shown."""
    text = str(path)
    if len(text) > 300 or "\n" in text or "\r" in text or "-----BEGIN" in text:
        return f"(a text of {len(text)} characters, which is no file's name)"
    return text


def _toml(text: str, twice: list[str]) -> Any:
    del twice  # the parser refuses them
    return tomllib.loads(text)


def _json(text: str, twice: list[str]) -> Any:
    found: list[tuple[dict[str, Any], str]] = []

    def table(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        made: dict[str, Any] = {}
        for key, value in pairs:
            if key in made:
                found.append((made, key))
            made[key] = value
        return made

    values = json.loads(text, object_pairs_hook=table)
    if found:
        paths = dict(_tables(values))
        twice += dict.fromkeys(_dotted(paths.get(id(made), ""), key) for made, key in found)
    return values


def _tables(values: object, path: str = "") -> Iterator[tuple[int, str]]:
    """Every table with its dotted path."""
    if isinstance(values, dict):
        yield id(values), path
        for key, below in values.items():
            yield from _tables(below, _dotted(path, key))
    elif isinstance(values, list):
        for below in values:
            yield from _tables(below, path)


def _dotted(path: str, key: object) -> str:
    return f"{path}.{key}" if path else str(key)


def _yaml(text: str, twice: list[str]) -> Any:
    try:
        from graphql_prod.settings.yaml import parse
    except ImportError:
        raise ConfigurationError(
            "settings in YAML need PyYAML: pip install 'graphql-prod[yaml]', or use TOML or JSON"
        ) from None
    return parse(text, twice)
