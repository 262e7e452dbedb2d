"""List, open and encode the editable files of a configuration folder."""

import hashlib
import re
from dataclasses import dataclass
from pathlib import Path

from deploy.config.models.names import NAME

KINDS = ("integrations", "sources", "plans")
"""The folders with files that can be edited. turnout.yaml is not among them: it says who may edit."""

_BOM = b"\xef\xbb\xbf"


class UnknownFileError(Exception):
    """A name that is not one of the folder's files."""


@dataclass(frozen=True, slots=True)
class OpenedFile:
    """A file as read: its name in the folder, its text with LF line ends, and a digest of its bytes.

    The digest of a file that does not exist is empty.
    """

    name: str
    text: str
    digest: str


class ConfigFiles:
    """Lists, opens and encodes the files of a configuration folder. Names come only from its own list."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def names(self) -> list[str]:
        """Return the names of the files, such as `integrations/meta.yaml`, including tests."""
        return [
            f"{kind}/{path.name}"
            for kind in KINDS
            for path in sorted((self.folder / kind).glob("*.yaml"))
            if path.is_file() and not path.name.startswith(".")
        ]

    def path(self, name: str, *, new: bool = False) -> Path:
        """Return the path of a file; raises UnknownFileError.

        Args:
            name: One of `names`.
            new: Whether the name may also be that of a new file.

        """
        kind, _, file = name.partition("/")
        if name not in self.names() and not (new and kind in KINDS and _NEW.fullmatch(file)):
            raise UnknownFileError(f"The configuration has no file {name!r}.")
        return self.folder / kind / file

    def open(self, name: str, *, new: bool = False) -> OpenedFile:
        """Read a file; raises UnknownFileError, and OSError if it cannot be read."""
        path = self.path(name, new=new)
        try:
            content = path.read_bytes()
        except FileNotFoundError:
            return OpenedFile(name, "", "")
        text = content.removeprefix(_BOM).decode("utf-8", "replace")
        return OpenedFile(name, text.replace("\r\n", "\n"), digest_of(content))

    def encode(self, name: str, text: str) -> bytes:
        """Return a text as the file's content, with the line ends and byte order mark of the existing file."""
        path = self.path(name, new=True)
        before = path.read_bytes() if path.exists() else b""
        text = text.replace("\r\n", "\n")
        if b"\r\n" in before:
            text = text.replace("\n", "\r\n")
        return (_BOM if before.startswith(_BOM) else b"") + text.encode("utf-8", "surrogatepass")


def digest_of(content: bytes) -> str:
    """Return the digest that detects changes of a file."""
    return hashlib.sha256(content).hexdigest()


_NEW = re.compile(NAME.removesuffix("$") + r"(\.test)?\.yaml")
