"""Provide Segment's own engine for comparisons, pinned in package.json."""

from pathlib import Path

HERE = Path(__file__).parent
