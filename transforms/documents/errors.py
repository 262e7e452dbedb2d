class RuleError(Exception):
    """An error in a configuration file, with its location and a hint how to fix it.

    `line` and `column` count from 1; `path` is the file. All three are None if the text does not come from a file.
    """

    def __init__(
        self,
        message: str,
        hint: str | None = None,
        line: int | None = None,
        column: int | None = None,
        path: str | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.line = line
        self.column = column
        self.path = path

    def __str__(self) -> str:
        place = [str(part) for part in (self.path, self.line, self.column) if part is not None]
        hint = f" ({self.hint})" if self.hint else ""
        return ":".join([*place, f" {self.message}{hint}"]) if place else f"{self.message}{hint}"
