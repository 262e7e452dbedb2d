"""A position in a document, kept as keys until a line is needed."""

from dataclasses import dataclass

from transforms.documents.document import Document
from transforms.documents.errors import RuleError


@dataclass(frozen=True, slots=True)
class Location:
    """A document and the keys that lead to a value in it. Lines are computed only on demand."""

    document: Document | None = None
    keys: tuple[str | int, ...] = ()

    def at(self, key: str | int) -> "Location":
        """Return the location of a value within this one."""
        return Location(self.document, (*self.keys, key))

    @property
    def line(self) -> int | None:
        """The line, from 1; None if the value does not come from a file."""
        return self.document.where(*self.keys)[0] if self.document else None

    @property
    def column(self) -> int | None:
        """The column, from 1; None if the value does not come from a file."""
        return self.document.where(*self.keys)[1] if self.document else None

    @property
    def path(self) -> str | None:
        """The path of the file; None if the value does not come from a file."""
        return self.document.path if self.document else None

    def error(self, message: str, hint: str | None = None, *, offset: int = 0, key: bool = False) -> RuleError:
        """Return an error at this location.

        `offset` is the position of a character within the text at this location. With `key`, the error points at the
        value's key.
        """
        if self.document is None:
            where = "".join(f"/{name}" for name in self.keys)
            return RuleError(f"{where}: {message}" if where else message, hint)
        place = self.document.where_key(*self.keys) if key else self.document.where_in(offset, *self.keys)
        return RuleError(message, hint, *place, self.document.path)
