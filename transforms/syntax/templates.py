"""Split templates: text with `{{path}}` or `{{{path}}}` in it."""

import re
from collections.abc import Iterator

PLACEHOLDER = re.compile(r"\{\{\{([^{}]+)\}\}\}|\{\{([^{}]+)\}\}")


def split_template(text: str) -> Iterator[tuple[str, str | None, int]]:
    """Yield the text before, path and offset of each placeholder; then the remaining text with None as the path."""
    end = 0
    for match in PLACEHOLDER.finditer(text):
        yield text[end : match.start()], (match[1] or match[2]).strip(), match.start()
        end = match.end()
    yield text[end:], None, end
