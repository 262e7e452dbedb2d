from pathlib import Path

import pytest

from forwarders.api import durable


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_replace_takes_the_place_of_the_old_file_and_of_what_a_crash_left(tmp_path: Path) -> None:
    """The file holds the last content whole, and the hidden rest of an attempt that was cut short is gone."""
    path = tmp_path / "new" / "a.parquet"
    durable.replace(path, b"first")
    (path.parent / ".a.parquet.half").write_bytes(b"sec")
    (path.parent / ".b.parquet.half").write_bytes(b"another's")
    durable.replace(path, b"second")
    assert path.read_bytes() == b"second"
    assert names(path.parent) == [".b.parquet.half", "a.parquet"]


def test_replace_that_fails_leaves_the_old_file(tmp_path: Path) -> None:
    """Where the file cannot take its place, nothing of the attempt is left."""
    path = tmp_path / "a.parquet"
    path.mkdir()
    with pytest.raises(OSError, match="directory"):
        durable.replace(path, b"content")
    assert names(tmp_path) == ["a.parquet"]
