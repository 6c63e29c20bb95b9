"""Plain tables for people and for pipes."""

from __future__ import annotations

import sys

from rich.console import Console
from rich.table import Table


def table(*titles: str, numbers: tuple[int, ...] = ()) -> Table:
    """A table without lines; its first column, by which a row is called in other commands, is never cut or folded."""
    made = Table(box=None, pad_edge=False, header_style="bold")
    for position, title in enumerate(titles):
        justify = "right" if position in numbers else "left"
        made.add_column(title, justify=justify, overflow="fold", no_wrap=position == 0)  # type: ignore[arg-type]
    return made


def show(shown: Table) -> None:
    # Into a file or a pipe a line stays whole; only a terminal folds it.
    Console(width=None if sys.stdout.isatty() else 1_000).print(shown)


def short_time(text: str | None) -> str:
    """An RFC 3339 time without its fraction."""
    return text.split(".")[0] + "Z" if text else ""
