"""Where an address is.

Costs 1 µs, and 7 more for an address that is not in the cache, with a city database.
"""

import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from streams.events import Event
from streams.steps.enrichment.caching import cached
from streams.steps.enrichment.contract import NOTHING, Enrich, Enrichment, Settings, object_at
from streams.steps.enrichment.files import Files
from streams.steps.enrichment.patches import Patch

if TYPE_CHECKING:
    import maxminddb


class GeoSettings(Settings):
    """The database that knows."""

    database: Path
    """A MaxMind DB file of countries or cities (GeoLite2, GeoIP2, or one of the same form)."""

    language: str = "en"
    """The language of the names, of those that the database has."""


def read_database(path: Path) -> "maxminddb.Reader":
    """A database, by a copy of the file without a name; raises OSError and ValueError.

    Its pages are read when they are needed, and the file may be replaced or cut off meanwhile.
    """
    import maxminddb

    with path.open("rb") as given, tempfile.NamedTemporaryFile(prefix="turnout-geo-") as copy:
        shutil.copyfileobj(given, copy)
        copy.flush()
        try:
            return maxminddb.open_database(copy.name)
        except maxminddb.InvalidDatabaseError:
            raise ValueError("is no MaxMind DB") from None


def make(settings: GeoSettings, files: Files) -> Enrich:
    """Fill `context.location` by `context.ip`: country, countryCode, region, regionCode, city, postalCode, latitude and
    longitude; and `context.timezone`.
    """
    database = files.read(settings.database, ("database",), read_database)

    @cached
    def locate(address: str) -> Patch | None:
        try:
            record = database.get(address)
        except ValueError:
            return None
        return _patch(record, settings.language) if isinstance(record, dict) else None

    def place(event: Event) -> Patch | None:
        context = event.get("context") or NOTHING
        address = context.get("ip")
        # A part of one place beside a part of another would be neither.
        if type(address) is not str or context.get("location"):
            return None
        return locate(address)

    return place


def _patch(record: dict[str, Any], language: str) -> Patch | None:
    country = object_at(record, "country") or object_at(record, "registered_country")
    regions = record.get("subdivisions")
    region = regions[0] if isinstance(regions, list) and regions and isinstance(regions[0], dict) else {}
    where = object_at(record, "location")
    location = {
        "country": _name(country, language),
        "countryCode": country.get("iso_code"),
        "region": _name(region, language),
        "regionCode": region.get("iso_code"),
        "city": _name(object_at(record, "city"), language),
        "postalCode": object_at(record, "postal").get("code"),
        "latitude": where.get("latitude"),
        "longitude": where.get("longitude"),
    }
    found = {key: value for key, value in location.items() if isinstance(value, str | float | int)}
    context: dict[str, Any] = {"location": found} if found else {}
    timezone = where.get("time_zone")
    if isinstance(timezone, str):
        context["timezone"] = timezone
    return {"context": context} if context else None


def _name(place: dict[str, Any], language: str) -> Any:
    names = object_at(place, "names")
    return names.get(language) or names.get("en")


GEO = Enrichment("geo", GeoSettings, make)
