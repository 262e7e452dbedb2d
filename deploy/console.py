"""Rich's console for output that may hold text from events: no markup in it is interpreted."""

from collections.abc import Iterable
from typing import Any

from rich.console import Console, ConsoleOptions, RenderableType
from rich.segment import Segment
from rich.text import Text

from deploy.escaping import escape, escape_line


class PlainConsole(Console):
    """A console that shows all text as it is: its own colours come from styles, never from markup or escape codes."""

    def __init__(self, **options: Any) -> None:
        super().__init__(markup=False, emoji=False, highlight=False, **options)

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        """Escape the text of every segment; Rich's own cursor movements are control segments."""
        for segment in super().render(renderable, options):
            yield segment if segment.control else segment._replace(text=escape(segment.text))


def one_line(*parts: str | tuple[str, str]) -> Text:
    """Make one line of texts, or of pairs of a text and its style; line breaks in them are escaped."""
    pieces = ((part, "") if isinstance(part, str) else part for part in parts)
    return Text.assemble(*((escape_line(text), style) for text, style in pieces))


def cells(*values: object) -> list[str]:
    """Make cells of a table, each of one line."""
    return [escape_line(value) for value in values]
