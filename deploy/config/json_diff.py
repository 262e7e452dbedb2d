"""Find the differences between two JSON values."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum
from typing import Any, Final

from deploy.config.diagnostics import Place


class Absent(Enum):
    """The type of ABSENT, which marks a missing value."""

    ABSENT = "absent"


ABSENT: Final = Absent.ABSENT


@dataclass(frozen=True, slots=True)
class Difference:
    """The different values at one place; one of them may be ABSENT."""

    place: Place
    before: Any
    after: Any

    @property
    def field(self) -> str:
        """The place as text, such as `payload.items[0].price`."""
        return dotted(self.place)

    def data(self) -> dict[str, Any]:
        """Return the difference as JSON data, without a side that is ABSENT."""
        sides = {"before": self.before, "after": self.after}
        return {"field": self.field, **{side: value for side, value in sides.items() if value is not ABSENT}}


def dotted(place: Place) -> str:
    """Write a place as text: keys with dots, indexes in brackets."""
    text = "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in place)
    return text.removeprefix(".")


def compare(before: Any, after: Any, at: Place = ()) -> Iterator[Difference]:
    """Yield the smallest parts that differ in two JSON values; 9 equals 9.0, but true does not equal 1."""
    if isinstance(before, dict) and isinstance(after, dict):
        for key in {**before, **after}:
            yield from compare(before.get(key, ABSENT), after.get(key, ABSENT), (*at, key))
    elif isinstance(before, list) and isinstance(after, list):
        for index in range(max(len(before), len(after))):
            one, other = (each[index] if index < len(each) else ABSENT for each in (before, after))
            yield from compare(one, other, (*at, index))
    elif before != after or isinstance(before, bool) is not isinstance(after, bool):
        yield Difference(at, before, after)


def shown(value: Any, width: int = 200) -> str:
    """Write a value as JSON on one line, truncated to `width`; `nothing` for ABSENT."""
    if value is ABSENT:
        return "nothing"
    text = json.dumps(value, ensure_ascii=False, default=str)
    return text if len(text) <= width else f"{text[: width - 1]}…"
