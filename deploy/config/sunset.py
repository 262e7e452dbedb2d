"""Warn before a vendor turns off the version of its API that an integration uses."""

from datetime import date, timedelta
from typing import Any, Final

from forwarders.api.contract import Contract
from transforms import RuleError
from transforms.documents import Document

WARNING_PERIOD: Final = timedelta(days=60)


def find_sunset(document: Document, contract: Contract, settings: Any, today: date) -> RuleError | None:
    """Return a warning if the API version of an integration, explicit or by default, ends within 60 days."""
    key = contract.version_setting
    settings = settings if isinstance(settings, dict) else {}
    version = contract.version_in_use(settings)
    if version is None or version.sunset is None or version.sunset - today > WARNING_PERIOD:
        return None
    ends = "ended" if version.sunset <= today else "ends"
    newest = contract.versions[0].name
    place = f"settings.{key}: " if key in contract.settings.model_fields else ""
    return document.error(
        f"{place}version {version.name} of {contract.title} {ends} on {version.sunset:%Y-%m-%d}",
        f"write {newest!r}" if newest != version.name else "a newer release of Turnout may support a newer version",
        at=("settings", key) if key in settings else ("forwarder",),
    )
