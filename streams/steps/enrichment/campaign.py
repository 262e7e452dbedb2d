"""Read the campaign and click IDs from a page's URL.

Costs 2 µs per event, and 5 µs for a URL that is not in the cache.
"""

from typing import Any, NamedTuple

from streams.events import Event
from streams.steps.enrichment.caching import cached
from streams.steps.enrichment.contract import NOTHING, Enrich, Enrichment, Settings, object_at
from streams.steps.enrichment.files import Files
from streams.steps.enrichment.page import split, url_of
from streams.steps.enrichment.patches import Patch
from streams.steps.enrichment.timestamp import seconds
from turnout_tracking.context import campaign_and_clicks, vendor_ids


class CampaignSettings(Settings):
    """The enrichment has no settings."""


class _Found(NamedTuple):
    """The campaign and click IDs in a URL. `ids` are by integration, without Meta's, which depends on the time."""

    campaign: dict[str, str]
    clicks: dict[str, str]
    ids: dict[str, dict[str, str]]


@cached
def _read(url: str) -> _Found:
    parts = split(url)
    campaign, clicks = campaign_and_clicks(parts["query"]) if parts else ({}, {})
    return _Found(campaign, clicks, vendor_ids({}, {name: clicks[name] for name in clicks if name != "fbclid"}, 0))


def make(_settings: CampaignSettings, _files: Files) -> Enrich:
    """Read utm parameters and click IDs from the page's URL.

    The campaign goes to `context.campaign` unless the sender set one. Click IDs go to `context.clickIds`, and to
    `integrations`, where presets read them, except for integrations that the sender turned off. An `fbclid` becomes
    Meta's `fbc`.
    """

    def attribute(event: Event) -> Patch | None:
        url = url_of(event)
        if not url:
            return None
        campaign, clicks, ids = _read(url)
        context = event.get("context") or NOTHING
        patch: dict[str, Any] = {}
        if campaign and not context.get("campaign"):
            patch["campaign"] = campaign
        if not clicks:
            return {"context": patch} if patch else None
        known = object_at(context, "clickIds")
        patch["clickIds"] = {name: clicks[name] for name in clicks if not known.get(name)} if known else clicks
        if "fbclid" in clicks:
            # fbc contains the event's time.
            at = seconds(event.get("timestamp") or event.get("receivedAt"))
            ids = ids | vendor_ids({}, {"fbclid": clicks["fbclid"]}, int(at * 1000)) if at is not None else ids
        ids = _missing_ids(ids, event.get("integrations") or NOTHING)
        return {"context": patch, "integrations": ids} if ids else {"context": patch}

    return attribute


def _missing_ids(ids: dict[str, dict[str, str]], given: dict[str, Any]) -> dict[str, dict[str, str]]:
    """Return the IDs that integrations lack, without integrations that the sender turned off."""
    if not given:
        return ids
    missing = {}
    for name, fields in ids.items():
        setting = given.get(name, given.get("All"))
        if type(setting) is dict:
            missing[name] = {key: value for key, value in fields.items() if not setting.get(key)}
        elif setting is True or setting is None:
            missing[name] = fields
    return missing


CAMPAIGN = Enrichment("campaign", CampaignSettings, make, replaces=True)
