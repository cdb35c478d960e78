"""Settings as a person reads them: by group, in the columns of a terminal, with what was set in bold."""

from __future__ import annotations

import shutil
import sys
import textwrap
from itertools import groupby
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    Row = tuple[tuple[str, ...], str, str]
    """A setting's key, its value, and where it came from."""

DEFAULT = "default"
_NAME = 24


def show(rows: Iterable[Row]) -> None:
    """Print them on a terminal; with rich in colour, where that is installed."""
    width = max(shutil.get_terminal_size().columns, 60)
    say = _teller()
    for line, named in lines(rows, width):
        say(line, named)


def lines(rows: Iterable[Row], width: int) -> Iterator[tuple[str, bool]]:
    """The lines, none longer than ``width`` if that can be, and whether somebody has set what they show."""
    ordered = sorted(rows, key=lambda row: _group(row[0]))
    for group, members in groupby(ordered, key=lambda row: _group(row[0])):
        if group:
            yield "", False
            yield f"[{group}]", False
        for key, value, origin in members:
            named = origin != DEFAULT
            name = ".".join(key[len(group.split(".")) if group else 0 :])
            for line in _lines(name, value, origin if named else "", width):
                yield line, named


def _group(key: tuple[str, ...]) -> str:
    if len(key) < 2:
        return ""
    return ".".join(key[:2]) if key[0] == "operations" else key[0]


def _lines(name: str, value: str, origin: str, width: int) -> Iterator[str]:
    source = f"  # {origin}" if origin else ""
    whole = f"  {name:<{_NAME}} {value}{source}"
    if len(whole) <= width:
        yield whole
        return
    text = f"  {name:<{_NAME}} {_ranges(value)}"
    yield from textwrap.wrap(text, width, subsequent_indent=" " * (_NAME + 3), break_on_hyphens=False)
    if source:
        yield " " * (_NAME + 1) + source


def _ranges(value: str) -> str:
    """A long list of numbers as people write it: 520-599."""
    parts = value.split(",")
    if len(parts) < 3 or not all(part.isdigit() for part in parts):
        return value.replace(",", ", ")
    found: list[list[int]] = []
    for number in map(int, parts):
        if found and found[-1][-1] == number - 1:
            found[-1].append(number)
        else:
            found.append([number])
    return ", ".join(f"{run[0]}-{run[-1]}" if len(run) > 1 else str(run[0]) for run in found)


def _teller() -> Callable[[str, bool], None]:
    try:
        from rich.console import Console
        from rich.text import Text
    except ImportError:
        return lambda line, _: print(line)
    console = Console(file=sys.stdout)

    def say(line: str, named: bool) -> None:
        style = "bold cyan" if line.startswith("[") else "bold" if named else "dim"
        console.print(Text(line, style=style), soft_wrap=True)

    return say
