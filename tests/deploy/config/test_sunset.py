"""Versions of vendors' APIs that end are warned of in time."""

from dataclasses import replace
from datetime import date

import pytest

from deploy.config.configuration import read_configuration
from deploy.config.sunset import find_sunset
from forwarders.api.contract import Version
from forwarders.vendors.klaviyo.forwarder import Klaviyo
from forwarders.vendors.linkedin.forwarder import LinkedIn
from forwarders.vendors.reddit.forwarder import Reddit
from transforms.documents import Document

CONTRACT = replace(
    LinkedIn.contract,
    versions=(Version("202609", date(2027, 9, 15)), Version("202603", date(2027, 3, 15)), Version("202601")),
)
WRITTEN = Document.parse("forwarder: linkedin\nsettings:\n  api_version: '202603'\n", "ads.yaml")
DEFAULT = Document.parse("forwarder: linkedin\nsettings: {}\n", "ads.yaml")


@pytest.mark.parametrize(
    ("today", "says"),
    [
        (date(2027, 1, 13), None),
        (date(2027, 1, 14), "ends on 2027-03-15 (write '202609')"),
        (date(2027, 3, 14), "ends on 2027-03-15 (write '202609')"),
        (date(2027, 3, 15), "ended on 2027-03-15 (write '202609')"),
    ],
)
def test_sixty_days_ahead(today, says):
    """The warning comes 60 days ahead, at the line of the version, and names the newest one."""
    warning = find_sunset(WRITTEN, CONTRACT, WRITTEN.data["settings"], today)
    expected = says and f"ads.yaml:3:16: settings.api_version: version 202603 of LinkedIn Conversions API {says}"
    assert (warning and str(warning)) == expected


def test_version_by_default():
    """A version that no file names is warned of at the forwarder."""
    warning = find_sunset(DEFAULT, CONTRACT, {}, date(2027, 3, 1))
    assert str(warning).startswith("ads.yaml:1:12: settings.api_version: version 202603 of LinkedIn")


@pytest.mark.parametrize("version", ["202601", "203001"])
def test_no_end_is_known(version):
    """There is no warning for a version without a published end, or one that is not in the contract."""
    assert find_sunset(DEFAULT, CONTRACT, {"api_version": version}, date(2030, 1, 1)) is None


def test_version_of_another_setting():
    """The contract names the setting that selects the version; without one, the version in use is the newest."""
    contract = replace(Klaviyo.contract, versions=(Version("2026-04-15", date(2028, 4, 15)),))
    document = Document.parse("forwarder: klaviyo\nsettings: {revision: '2026-04-15'}\n", "crm.yaml")
    warning = find_sunset(document, contract, document.data["settings"], date(2028, 4, 1))
    assert str(warning).startswith("crm.yaml:2:22: settings.revision: version 2026-04-15 of Klaviyo ends")
    fixed = replace(Reddit.contract, versions=(Version("v3", date(2028, 4, 15)),))
    document = Document.parse("forwarder: reddit\nsettings: {}\n", "ads.yaml")
    warning = find_sunset(document, fixed, {}, date(2028, 4, 15))
    assert str(warning).startswith("ads.yaml:1:12: version v3 of Reddit Conversions API ended on 2028-04-15")


def test_check_warns(tmp_path):
    """A folder with an integration on an old version is without mistakes, and has a warning."""
    (tmp_path / "integrations").mkdir()
    (tmp_path / "turnout.yaml").write_text("{}\n")
    (tmp_path / "integrations/ads.yaml").write_text(
        "integration: ads\nforwarder: linkedin\npreset: linkedin\n"
        "settings: {auth: {type: static, access_token: '${T}'}, conversions: {PURCHASE: 1}, api_version: '202511'}\n"
    )
    warnings = [str(warning) for warning in read_configuration(tmp_path).warnings]
    assert any(
        "version 202511 of LinkedIn Conversions API ended on 2026-11-16 (write '202603')" in it for it in warnings
    )
