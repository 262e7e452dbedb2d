"""Set length and seed of generated tests: short and fixed, or with `make fuzz` long and new."""

import os
import random

LONG = "TURNOUT_FUZZ" in os.environ


def examples(number: int) -> int:
    """The number of examples of a test: `number`, or 10 times as many with `make fuzz`."""
    return number * 10 if LONG else number


def seed() -> int:
    """The seed of a test's own random numbers: TURNOUT_FUZZ if it is a number, else a new one with `make fuzz`."""
    if not LONG:
        return 1
    given = os.environ["TURNOUT_FUZZ"]
    return int(given) if given.isdecimal() else random.SystemRandom().randrange(1 << 32)
