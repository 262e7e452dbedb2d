"""Compare texts regardless of case, spaces and Unicode form."""

import unicodedata


def comparable(text: str) -> str:
    """Return an id in the form in which ids are compared: NFC, trimmed, without invisible characters.

    Invisible are the characters of Unicode's category Cf, such as zero-width spaces, joiners and direction marks.
    """
    if text.isascii():
        return text.strip()
    visible = "".join(character for character in text if unicodedata.category(character) != "Cf")
    return unicodedata.normalize("NFC", visible).strip()
