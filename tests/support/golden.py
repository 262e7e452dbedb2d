"""The golden requests of Turnout's own forwarders; `turnout conformance NAME --cases tests/cases/requests --update`."""

from functools import cache
from pathlib import Path

from deploy.conformance.golden import DESCRIPTION, Golden

FOLDER = Path(__file__).parents[1] / "cases" / "requests"
NAMES = [path.parent.name for path in sorted(FOLDER.glob(f"*/{DESCRIPTION}"))]


@cache
def of(name: str) -> Golden:
    """Return a forwarder's folder."""
    return Golden(FOLDER / name)
