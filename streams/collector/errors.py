"""How the collector refuses a request."""

import orjson


class RequestError(Exception):
    """A request that is answered with an error: its HTTP status, a short constant code, and a message for people."""

    def __init__(self, status: int, code: str, message: str, headers: tuple[tuple[bytes, bytes], ...] = ()) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.headers = headers

    @property
    def body(self) -> bytes:
        """The answer's JSON; rudder-sdk-python sends again what was refused without these two keys."""
        return orjson.dumps({"code": self.code, "message": str(self)})
