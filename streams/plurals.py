"""Format numbers with their nouns."""


def counted(number: float, noun: str, plural: str | None = None) -> str:
    """Return a number with its noun: `1 event`, `1,234 events`; `plural` is for irregular nouns."""
    whole = int(number)
    return f"{whole if whole == number else number:,} {noun if number == 1 else plural or noun + 's'}"
