"""Encode and decode commands for integrations: pause, resume, probe."""

from dataclasses import asdict, dataclass
from enum import StrEnum

import orjson

from streams.records.format import CONTROL_VERSION, RecordError, decode_object


class ControlAction(StrEnum):
    """A command to forwarders."""

    PAUSED = "paused"
    """Send nothing until `resumed`."""
    RESUMED = "resumed"
    PROBE = "probe"
    """If the vendor fails, try again now."""


@dataclass(frozen=True, slots=True)
class Control:
    """The last command for an integration, its author, and its time (RFC 3339)."""

    action: ControlAction
    who: str
    when: str

    def encode(self) -> bytes:
        """Encode the record's value."""
        return orjson.dumps({"v": CONTROL_VERSION, **asdict(self)})

    @classmethod
    def decode(cls, value: bytes | None) -> "Control":
        """Decode a record's value; no value means resumed. Raises RecordError and NewerFormatError."""
        if value is None:
            return cls(ControlAction.RESUMED, "", "")
        data = decode_object(value, CONTROL_VERSION)
        try:
            return cls(ControlAction(data["action"]), str(data["who"]), str(data["when"]))
        except (ValueError, LookupError) as error:
            raise RecordError(f"a command for an integration cannot be read: {error}") from error
