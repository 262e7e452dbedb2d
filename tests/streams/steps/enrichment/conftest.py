"""Provide a folder with the data files that the cases name."""

import shutil
from pathlib import Path

import pytest
from mmdb_writer import MMDBWriter
from netaddr import IPSet

FILES = Path(__file__).parents[3] / "cases" / "enrichment" / "files"

MUNICH = {
    "country": {"iso_code": "DE", "names": {"en": "Germany", "de": "Deutschland"}},
    "subdivisions": [{"iso_code": "BY", "names": {"en": "Bavaria"}}],
    "city": {"names": {"en": "Munich", "de": "München"}},
    "postal": {"code": "80331"},
    "location": {"latitude": 48.137, "longitude": 11.575, "time_zone": "Europe/Berlin"},
}
FRANCE = {"registered_country": {"iso_code": "FR", "names": {"en": "France"}}}


def write_places(path: Path, city: str = "Munich") -> None:
    """Write a database of two networks."""
    writer = MMDBWriter(6, "Test-City", ipv4_compatible=True, languages=["en", "de"])
    writer.insert_network(IPSet(["203.0.113.0/24"]), MUNICH | {"city": {"names": {"en": city, "de": "München"}}})
    writer.insert_network(IPSet(["2001:db8::/32"]), FRANCE)
    writer.to_db_file(str(path))


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder: Path = shutil.copytree(FILES, tmp_path_factory.mktemp("enrichment") / "files")
    write_places(folder / "places.mmdb")
    return folder
