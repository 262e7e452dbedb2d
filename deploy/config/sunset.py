"""Warn before a vendor turns off the version of its API that an integration uses."""

from datetime import date, timedelta
from typing import Any, Final

from forwarders.api.contract import Contract
from transforms import RuleError
from transforms.documents import Document

WARNING_PERIOD: Final = timedelta(days=60)


def find_sunset(document: Document, contract: Contract, settings: Any, today: date) -> RuleError | None:
    """Return a warning if the `api_version` of an integration, explicit or by default, ends within 60 days."""
    field = contract.settings.model_fields.get("api_version")
    if field is None or not isinstance(settings, dict):
        return None
    written = "api_version" in settings
    name = settings["api_version"] if written else field.default
    version = next((each for each in contract.versions if each.name == name), None)
    if version is None or version.sunset is None or version.sunset - today > WARNING_PERIOD:
        return None
    ends = "ended" if version.sunset <= today else "ends"
    newest = contract.versions[0].name
    return document.error(
        f"settings.api_version: version {name} of {contract.title} {ends} on {version.sunset:%Y-%m-%d}",
        f"write {newest!r}" if newest != name else "a newer release of Turnout may support a newer version",
        at=("settings", "api_version") if written else ("forwarder",),
    )
