"""Normalize IDs for comparison."""

import unicodedata


def comparable(text: str) -> str:
    """Normalize an ID for comparison: NFC, trimmed, without invisible characters.

    Invisible characters are those of Unicode category Cf, such as zero-width spaces, joiners and direction marks.
    """
    if text.isascii():
        return text.strip()
    visible = "".join(character for character in text if unicodedata.category(character) != "Cf")
    return unicodedata.normalize("NFC", visible).strip()
