"""The file of a new integration is made from a form: valid, without a secret, as a person would write it."""

import shutil
from pathlib import Path

import pytest

from deploy.editing.drafts import check_drafts
from deploy.editing.new_integration import FieldsError, IntegrationForm, find_fields, write_integration
from forwarders import registry

EXAMPLE = Path("deploy/example").resolve()

VALID = {
    ("braze", "endpoint"): "https://rest.fra-01.braze.eu",
    ("clickhouse", "url"): "https://clickhouse.example",
    ("customerio", "site_id"): "s1",
    ("file", "folder"): "/var/log/turnout",
    ("google_ads", "customer_id"): "123",
    ("google_ads", "conversions"): "{PURCHASE: 7}",
    ("hubspot", "hub_id"): "12",
    ("kafka", "bootstrap"): "kafka:9092",
    ("kafka", "topic"): "events",
    ("linkedin", "conversions"): "{PURCHASE: 7}",
    ("meta", "pixel_id"): "12",
    ("object_storage", "url"): "s3://bucket/prefix",
    ("pinterest", "ad_account_id"): "12",
    ("reddit", "pixel_id"): "t2_1",
    ("rudderstack", "data_plane_url"): "https://rudder.example",
    ("tiktok", "event_source_id"): "C4",
    ("webhook", "url"): "https://hooks.example",
}
"""Values of settings that are neither secrets nor have parts."""


def settings_of(vendor: str, name: str) -> dict[str, str]:
    """What a user enters who fills in the required fields."""
    fields = find_fields(registry.find(vendor).contract, name)
    return {it.name: VALID.get((vendor, it.name), it.example) for it in fields if it.required}


@pytest.mark.parametrize("vendor", registry.names())
def test_every_vendor_can_be_added(tmp_path, vendor):
    """For every vendor, the filled in form gives a file that `check` accepts, in shadow, with secrets by reference."""
    folder = Path(shutil.copytree(EXAMPLE, tmp_path / "config"))
    form = IntegrationForm("new-one", settings_of(vendor, "new-one"), sources=["web"], consent=["advertising"])
    text = write_integration(form, registry.find(vendor))
    checked = check_drafts(folder, {folder / "integrations" / "new-one.yaml": text})
    assert checked.errors == ()
    added = checked.configuration.integrations["new-one"]
    assert (added.mode, added.sources, added.consent.categories[0].name) == ("shadow", {"web"}, "advertising")
    settings = added.document.data["settings"]
    for it in find_fields(registry.find(vendor).contract, "new-one"):
        if it.required and it.kind == "secret":
            assert settings[it.name] == f"${{NEW_ONE_{it.name.upper()}}}"


def test_file_is_as_a_person_would_write_it():
    """Given settings are in their place with their descriptions; the others stay as comments."""
    settings = {"pixel_id": "1048", "access_token": "${META_TOKEN}", "test_event_code": "TEST1"}
    text = write_integration(IntegrationForm("meta-ch", settings), registry.find("meta"))
    assert text == (
        "# yaml-language-server: $schema=../.schema/integration.json\n"
        "# Meta Conversions API: https://developers.facebook.com/docs/marketing-api/conversions-api\n"
        "integration: meta-ch\n"
        "forwarder: meta\n"
        "preset: meta  # its own rules; `turnout explain meta-ch` shows them\n"
        "mode: shadow\n"
        "\n"
        "settings:\n"
        "  pixel_id: '1048'  # The ID of the pixel (dataset).\n"
        "  access_token: '${META_TOKEN}'  # An access token of the pixel or of a system user.\n"
        "  test_event_code: TEST1\n"
        "  # api_version: v26.0  # The version of the Graph API.\n"
        "  # endpoint: https://graph.facebook.com  # Send to this address instead, for tests and proxies.\n"
        "\n"
        "# These rules are tried before the preset's; a rule with the name of a preset's rule replaces it.\n"
        "rules: []\n"
    )


@pytest.mark.parametrize(
    ("vendor", "settings", "problems"),
    [
        ("meta", {"access_token": "EAAB-very-secret"}, {"access_token": "a secret must not be in the file"}),
        ("hubspot", {"hub_id": "twelve"}, {"hub_id": "should be a number"}),
        ("hubspot", {"auth": "{type: ["}, {"auth": "line 2: not YAML"}),
    ],
)
def test_bad_values_are_named_and_not_repeated(vendor, settings, problems):
    """A plain secret, an invalid number and broken YAML are refused by field; the message does not repeat the value."""
    with pytest.raises(FieldsError) as raised:
        write_integration(IntegrationForm("x", settings), registry.find(vendor))
    assert raised.value.problems.keys() == problems.keys()
    for name, text in problems.items():
        assert text in raised.value.problems[name]
    assert "EAAB" not in str(raised.value)


def test_preset_can_be_left_out():
    """Without the preset, the file has none."""
    text = write_integration(
        IntegrationForm("x", {"url": "https://hooks.example"}, preset=False), registry.find("webhook")
    )
    assert "preset:" not in text
