"""The only file that prints, and the only one that knows rich."""

from __future__ import annotations

import io
import os
import sys
from typing import TYPE_CHECKING, Literal

from rich import box
from rich.console import Console
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

WIDTH = 100


class Screen:
    """The terminal, or whatever stands in its place: then without colors and 100 columns wide."""

    def __init__(self, *, color: bool = True) -> None:
        terminal = sys.stdout.isatty()
        colorful = color and terminal and not os.environ.get("NO_COLOR")
        if isinstance(sys.stdout, io.TextIOWrapper):
            sys.stdout.reconfigure(errors="replace")
        self._console = Console(
            file=sys.stdout,
            color_system="auto" if colorful else None,
            width=None if terminal else WIDTH,
            highlight=False,
            markup=False,
            emoji=False,
        )
        if terminal:
            self._console.width = min(self._console.width, WIDTH)

    def say(self, text: str = "", style: str = "") -> None:
        """A paragraph."""
        self._console.print(text, style=style)

    def quote(self, text: str) -> None:
        """What somebody else printed."""
        self._console.print(Padding(Text(text), (0, 0, 0, 12)), style="dim")

    def title(self, text: str) -> None:
        """The beginning of a part."""
        self._console.print()
        self._console.rule(Text(text, "bold"), align="left")

    def head(self, what: str = "scene") -> None:
        """The names of the columns of a timeline."""
        self._row("time", what, "attempt", "on the wire", "what the client does", "dim")

    def line(
        self, seconds: float, scene: int | str, attempt: int | str, wire: str, client: str, style: str = ""
    ) -> None:
        """One line of a timeline."""
        self._row(f"{seconds:.2f} s", str(scene), str(attempt), wire, client, style)

    def table(
        self, columns: Mapping[str, int], groups: Iterable[Sequence[tuple[Sequence[str], str]]]
    ) -> None:
        """A table of groups of (cells, style).

        ``columns`` gives each name its share of the room there is; 0 takes what its cells need. What
        stands behind the last share is numbers.
        """
        table = Table(box=box.SIMPLE, expand=True, padding=(0, 2, 0, 0), show_edge=False, header_style="bold")
        last = [number for number, share in enumerate(columns.values()) if share][-1]
        for number, (name, share) in enumerate(columns.items()):
            justify: Literal["left", "right"] = "right" if number > last else "left"
            table.add_column(name, ratio=share or None, justify=justify, overflow="fold")
        for group in groups:
            for cells, style in group:
                table.add_row(*(Text(cell) for cell in cells), style=style)
            table.add_section()
        self._console.print(table)

    def _row(self, seconds: str, scene: str, attempt: str, wire: str, client: str, style: str) -> None:
        grid = Table.grid(padding=(0, 2), expand=True)
        grid.add_column(width=9, justify="right")
        grid.add_column(width=5, justify="center")
        grid.add_column(width=7, justify="center")
        grid.add_column(ratio=39, overflow="fold")
        grid.add_column(ratio=32, overflow="fold")
        grid.add_row(*(Text(cell, style) for cell in (seconds, scene, attempt, wire, client)))
        self._console.print(grid)
