"""A Rich console that prints text from events without interpreting markup."""

from collections.abc import Iterable
from typing import Any

from rich.console import Console, ConsoleOptions, RenderableType
from rich.segment import Segment
from rich.text import Text

from deploy.terminal.escaping import escape, escape_line

MIN_TEXT_WIDTH = 24
"""Text is never wrapped to fewer columns, even on a narrower terminal."""


class PlainConsole(Console):
    """A console that shows text unchanged: colours come from styles, never from markup or escape codes in the text."""

    def __init__(self, **options: Any) -> None:
        super().__init__(markup=False, emoji=False, highlight=False, **options)

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        """Escape the text of every segment; Rich's own cursor movements are control segments."""
        for segment in super().render(renderable, options):
            yield segment if segment.control else segment._replace(text=escape(segment.text))


def print_wrapped(console: Console, text: Text, indent: int = 0, right: Text | None = None) -> None:
    """Print a text that wraps by words, with a hanging indent of two columns.

    `right` is printed at the right edge of the first line.
    """
    width = max(MIN_TEXT_WIDTH, console.width - indent - (right.cell_len + 2 if right else 0))
    lines = [text] if text.cell_len <= width else list(text.wrap(console, width - 2, overflow="fold"))
    for number, line in enumerate(lines):
        line.rstrip()
        if number == 0 and right:
            line.pad_right(width + 2 - line.cell_len)
            line.append_text(right)
        console.print(Text(" " * (indent + 2 * (number > 0))) + line, soft_wrap=True)


def one_line(*parts: str | tuple[str, str]) -> Text:
    """Join texts, or pairs of a text and its style, into one line; line breaks in them are escaped."""
    pieces = ((part, "") if isinstance(part, str) else part for part in parts)
    return Text.assemble(*((escape_line(text), style) for text, style in pieces))


def cells(*values: object) -> list[str]:
    """Return the values as table cells of one line each."""
    return [escape_line(value) for value in values]
