"""The files of data: mistakes in them, and what happens when they are replaced."""

import os
import shutil
from pathlib import Path
from typing import Any

import pytest

from streams.steps.enrichment import registry
from streams.steps.enrichment.files import Files, SettingError, find_replaced
from tests.streams.steps.enrichment.conftest import write_places


def make(name: str, folder: Path, **settings: Any) -> Any:
    enrichment = registry.find(name)
    return enrichment.make(enrichment.settings.model_validate(settings), Files(folder))


PLANS = {"file": "plans.csv", "key": "traits.plan", "into": "traits.details"}

MISTAKES: list[tuple[str, dict[str, Any], tuple[str | int, ...], str]] = [
    ("geo", {"database": "gone.mmdb"}, ("database",), "cannot read {folder}/gone.mmdb: No such file or directory"),
    ("geo", {"database": "."}, ("database",), "cannot read {folder}: Is a directory"),
    ("geo", {"database": "plans.csv"}, ("database",), "{folder}/plans.csv: is not a MaxMind DB file"),
    ("referrer", {"database": "plans.csv"}, ("database",), "{folder}/plans.csv: must be {{type: {{name: {{domains"),
    ("referrer", {"database": "broken.yaml"}, ("database",), "{folder}/broken.yaml:3:1: not YAML"),
    ("lookup", {"tables": [PLANS | {"file": "gone.csv"}]}, ("tables", 0, "file"), "cannot read {folder}/gone.csv"),
    ("lookup", {"tables": [PLANS | {"column": "x"}]}, ("tables", 0, "column"), "no row of plans.csv has 'x'"),
    ("lookup", {"tables": [PLANS | {"fields": ["tier", "x"]}]}, ("tables", 0, "fields", 1), "no row of plans.csv has"),
    ("lookup", {"tables": [PLANS | {"file": "teams.json"}]}, ("tables", 0), "column: required for a list of objects"),
    (
        "lookup",
        {"tables": [PLANS | {"file": "products.json", "column": "id"}]},
        ("tables", 0, "column"),
        "products.json is an object by key",
    ),
    (
        "lookup",
        {"tables": [PLANS | {"file": "ragged.csv"}]},
        ("tables", 0, "file"),
        "{folder}/ragged.csv: line 2: the number of values",
    ),
    ("lookup", {"tables": [PLANS | {"file": "latin.csv"}]}, ("tables", 0, "file"), "{folder}/latin.csv: is not CSV"),
    ("lookup", {"tables": [PLANS | {"file": "broken.json"}]}, ("tables", 0, "file"), "{folder}/broken.json: is not J"),
    (
        "lookup",
        {"tables": [PLANS | {"file": "flat.json"}]},
        ("tables", 0, "file"),
        "{folder}/flat.json: must be a list",
    ),
    (
        "lookup",
        {"tables": [PLANS | {"file": "deep.json"}]},
        ("tables", 0, "file"),
        "{folder}/deep.json: is nested more",
    ),
    ("bot", {"also": ["a", "("]}, ("also", 1), "invalid regular expression '(': missing )"),
]


@pytest.fixture
def own(folder: Path, tmp_path: Path) -> Path:
    """The folder of data, with files that are broken, to be changed by one test alone."""
    own: Path = shutil.copytree(folder, tmp_path / "own")
    (own / "broken.yaml").write_text("search:\n  - [\n")
    (own / "ragged.csv").write_text("a,b\n1\n")
    (own / "latin.csv").write_bytes("a,b\nMünchen,2\n".encode("latin-1"))
    (own / "broken.json").write_text('{"a": ')
    (own / "deep.json").write_text('{"a": {"b": ' + "[" * 20 + "]" * 20 + "}}")
    (own / "flat.json").write_text('{"a": 1}')
    return own


@pytest.mark.parametrize(("name", "settings", "key", "message"), MISTAKES)
def test_a_mistake_names_its_setting(own, name, settings, key, message):
    """An unusable file is an error at its setting, with the reason."""
    with pytest.raises(SettingError) as refused:
        make(name, own, **settings)
    assert refused.value.key == key
    assert refused.value.message.startswith(message.format(folder=own))


def city(enrich: Any) -> Any:
    return enrich({"context": {"ip": "203.0.113.7"}})["context"]["location"]["city"]


def test_a_replaced_database_is_read_by_the_next_configuration(own):
    """An open database keeps its complete old file; a new read of the folder gets the new one."""
    before = make("geo", own, database="places.mmdb")
    assert city(before) == "Munich"
    write_places(own / "new.mmdb", "Augsburg")
    os.replace(own / "new.mmdb", own / "places.mmdb")  # noqa: PTH105
    after = make("geo", own, database="places.mmdb")
    assert (city(before), city(after)) == ("Munich", "Augsburg")


def test_a_database_that_is_overwritten_in_place_breaks_nothing(own):
    """A file that is cut off while a process reads it would end the process, were it not read from a copy."""
    before = make("geo", own, database="places.mmdb")
    (own / "places.mmdb").write_bytes(b"")
    assert city(before) == "Munich"


def test_a_file_that_stayed_the_same_is_not_read_again(own, monkeypatch):
    """New rules do not reload large files."""
    make("geo", own, database="places.mmdb")
    monkeypatch.setattr("maxminddb.open_database", None)
    make("geo", own, database="places.mmdb")


def test_named_files_are_watched(own):
    """A file that was named is known, also one that is missing, and seen when it is there."""
    files = Files(own)
    settings = registry.find("geo").settings.model_validate({"database": "gone.mmdb"})
    with pytest.raises(SettingError):
        registry.find("geo").make(settings, files)
    assert files.used == {own / "gone.mmdb": None}
    assert not find_replaced(files.used)
    (own / "gone.mmdb").touch()
    assert find_replaced(files.used)
