"""Look up the location of an IP address.

Costs 1 µs per event, and 7 µs for an address that is not in the cache, with a city database.
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
    """The location database."""

    database: Path
    """A MaxMind DB file of countries or cities (GeoLite2, GeoIP2, or the same format)."""

    language: str = "en"
    """Language of the names, if the database has it."""


def read_database(path: Path) -> "maxminddb.Reader":
    """Open a database from an unlinked copy of its file; raises OSError and ValueError.

    Pages are read on demand, so the original file could be replaced or truncated in the meantime.
    """
    import maxminddb

    with path.open("rb") as given, tempfile.NamedTemporaryFile(prefix="turnout-geo-") as copy:
        shutil.copyfileobj(given, copy)
        copy.flush()
        try:
            return maxminddb.open_database(copy.name)
        except maxminddb.InvalidDatabaseError:
            raise ValueError("is not a MaxMind DB file") from None


def make(settings: GeoSettings, files: Files) -> Enrich:
    """Fill in `context.location` and `context.timezone` for `context.ip`.

    The location has country, countryCode, region, regionCode, city, postalCode, latitude and longitude.
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
        # Combining parts of two places would give a wrong place.
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
