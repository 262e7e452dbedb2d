"""Segment's own engine, to compare with: what package.json here pins."""

from pathlib import Path

HERE = Path(__file__).parent
