"""Recorded rules decide as the folder did that they were made of, whatever becomes of it, and have no secrets."""

import os
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import orjson
import pytest

from deploy.config.configuration import Configuration, read_configuration
from deploy.config.recorded_rules import UnusableRulesError, read_rules, record_rules, recorded_text
from deploy.dryrun.preview import decide_now, decode_event
from forwarders.vendors.meta.forwarder import Meta
from streams.records.recorded_rules import MAX_FILES_BYTES, RecordedRules
from transforms.documents import Document

SECRETS = {
    "WEB_KEY": "secret-of-the-web",
    "OLD_KEY": "secret-that-is-retired",
    "HOOK_SECRET": "secret-of-the-hook",
    "HOOK_TOKEN": "secret-of-the-vendor",
    "META_TOKEN": "secret-of-meta",
}

FILES = {
    "turnout.yaml": "embedded: true\ndefault_source: web\nconsent: {gpc_denies: [ads]}\n",
    "plans/shop.yaml": """
plan: shop
events:
  - type: track
    event: Order
    properties: {properties: {total: {type: number}}}
""",
    "sources/web.yaml": """# secret-in-a-comment
source: web
write_keys: ['${WEB_KEY}']  # secret-in-a-comment
disabled_keys: ['${OLD_KEY}']
plan: shop
enrich:
  lookup: {tables: [{file: prices.csv, key: properties.sku, into: properties}]}
rules:
  - name: no-tests
    when: 'properties.sku = "test"'
    drop: true
tests:
  - {name: secret-in-a-test, event: {type: track, event: Order, userId: u}, expect: {}}
""",
    "sources/hook.yaml": """
source: hook
webhook: {signature: {scheme: hmac-sha256, header: x-signature, secret: '${HOOK_SECRET}'}}
rules:
  - {name: made, map: {type: track, event: Order, userId: $.body.user}}
""",
    "integrations/crm.yaml": """
integration: crm
forwarder: webhook
settings:
  url: https://crm.example/secret-in-a-path
  auth: {type: bearer, token: '${HOOK_TOKEN}'}
consent: {all: [ads]}
rules:
  # secret-in-a-comment
  - name: order
    when: 'event = "Order" and properties.price = "10"'
    map: {price: $.properties.price}
""",
    "integrations/meta.yaml": """
integration: meta
forwarder: meta
preset: meta
settings: {pixel_id: "123", access_token: '${META_TOKEN}'}
sources: [web]
""",
    "prices.csv": "sku,price\na,10\nb,1\n",
}


def event(sku: str = "a", *, ads: bool = True) -> bytes:
    return orjson.dumps(
        {
            "type": "track", "event": "Order", "userId": "u", "messageId": "m", "timestamp": "2026-01-02T03:04:05Z",
            "receivedAt": "2026-01-02T03:04:06Z", "properties": {"sku": sku, "total": "x"},
            "context": {"consent": {"categoryPreferences": {"ads": ads}}},
        }
    )  # fmt: skip


EVENTS = [event(), event("b"), event("test"), event(ads=False)]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name, value in SECRETS.items():
        monkeypatch.setenv(name, value)
    for name, text in FILES.items():
        path = tmp_path / "turnout" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return tmp_path / "turnout"


def decisions(configuration: Configuration) -> list[object]:
    """Return what becomes of EVENTS: outcomes, reasons, payloads and notes."""
    found: list[object] = []
    for value in EVENTS:
        notes: list[tuple[str, str]] = []
        decision = decide_now(
            decode_event(value, configuration.sources, "web"),
            replace(configuration.rule_set(), version="v"),
            datetime(2026, 1, 2, tzinfo=UTC),
            lambda reason, detail, notes=notes: notes.append((reason, detail)),
        )
        found.append(([each[1:6] for each in decision.outcomes], decision.rejected, notes))
    return found


def recorded_of(configuration: Configuration) -> RecordedRules:
    return RecordedRules.decode(record_rules(configuration).encode())


def test_they_decide_as_before_after_everything_has_changed(folder: Path, monkeypatch: pytest.MonkeyPatch):
    """Rules, plans, tables, presets, settings and secrets are others today; lines are those of the old files."""
    before = read_configuration(folder)
    expected, recorded = decisions(before), recorded_of(before)
    assert len({str(each) for each in expected}) == len(EVENTS)
    preset = Meta.preset()
    assert preset is not None
    other = folder.parent / "meta.yaml"
    other.write_text(f"# another preset\n{preset.read_text()}".replace("Purchase", "Bought"))
    monkeypatch.setattr(Meta, "preset", classmethod(lambda _: other))
    for name in ("plans/shop.yaml", "sources/hook.yaml", "integrations/meta.yaml"):
        (folder / name).unlink()
    (folder / "prices.csv").write_text("sku,price\na,1\nb,10\n")
    (folder / "turnout.yaml").write_text("embedded: true\nconsent: {gpc_denies: []}\n")
    (folder / "sources/web.yaml").write_text("source: web\n")
    crm = folder / "integrations/crm.yaml"
    crm.write_text(crm.read_text().replace('"10"', '"50"'))
    for name in SECRETS:
        monkeypatch.delenv(name)
    today = read_configuration(folder)
    monkeypatch.setenv("HOOK_TOKEN", "another")
    assert decisions(today) != expected

    then = read_rules(recorded, before.version, today)
    assert decisions(then) == expected
    assert (then.version, then.settings.default_source, list(then.warnings)) == (before.version, "web", [])
    assert list(recorded.integrations) == ["crm", "meta"]
    for name, integration in before.integrations.items():
        for old, new in zip(integration.rules.rules, then.integrations[name].rules.rules, strict=True):
            assert (old.name, old.place.line, old.place.column) == (new.name, new.place.line, new.place.column)
        where = integration.document.where_key("consent")
        assert then.integrations[name].document.where_key("consent") == where


def test_there_are_no_secrets_in_them(folder: Path):
    """Values of variables, comments, tests and settings of vendors are left out; references stay."""
    value = record_rules(read_configuration(folder)).encode()
    assert b"secret-" not in value
    assert b"${WEB_KEY}" in value
    assert b"${HOOK_SECRET}" in value
    assert b"crm.example" not in value


def test_no_secret_of_the_example_is_in_its_rules(monkeypatch: pytest.MonkeyPatch):
    """Nothing of the environment is."""
    values = {f"secret{number}value": name for number, name in enumerate(("WEB_WRITE_KEY", "SERVER_WRITE_KEY"))}
    for value, name in values.items():
        monkeypatch.setenv(name, value)
    text = record_rules(read_configuration(Path("deploy/example").resolve())).encode().decode()
    assert [value for value in values if value in text] == []
    assert [value for name, value in os.environ.items() if "SECRET" in name and len(value) > 7 and value in text] == []


def test_a_large_table_is_recorded_by_its_hash(folder: Path):
    """The rest comes with its content. `why` can say that the file is another one today."""
    rows = "".join(f"{number},{os.urandom(24).hex()}\n" for number in range(40_000))
    (folder / "large.csv").write_text(f"sku,colour\na,red\n{rows}")
    source = folder / "sources/web.yaml"
    table = "tables: [{file: large.csv, key: properties.sku, into: properties}, "
    source.write_text(source.read_text().replace("tables: [", table))
    before = read_configuration(folder)
    recorded = recorded_of(before)
    assert {file.name: file.content is None for file in recorded.files} == {"large.csv": True, "prices.csv": False}
    assert sum(len(file.packed or b"") for file in recorded.files) <= MAX_FILES_BYTES
    same = read_rules(recorded, before.version, before)
    assert (list(same.warnings), decisions(same)) == ([], decisions(before))
    (folder / "large.csv").write_text("sku,colour\na,blue\n")
    other = read_rules(recorded, before.version, before)
    assert [each.message for each in other.warnings] == [
        "large.csv is recorded by its hash only, and is another file today"
    ]
    (folder / "large.csv").unlink()
    gone = read_rules(recorded, before.version, before)
    assert any("enrich.lookup" in each.message for each in gone.warnings)
    assert decisions(gone)[3] == decisions(before)[3]


def test_the_version_is_that_of_all_that_decides(folder: Path):
    """Tables and settings of consent are part of it, and which integrations have no route yet."""
    versions = [read_configuration(folder).version]
    (folder / "prices.csv").write_text("sku,price\na,11\n")
    versions.append(read_configuration(folder).version)
    (folder / "turnout.yaml").write_text("embedded: true\ndefault_source: web\nconsent: {gpc_denies: []}\n")
    configuration = read_configuration(folder)
    versions += [configuration.version, configuration.rule_set(without={"meta"}).version]
    assert len(set(versions)) == 4
    assert record_rules(configuration, {"meta"}).integrations == ["crm"]
    (folder / "turnout.yaml").write_text("embedded: true\ndefault_source: web\nconsent: {gpc_denies: []}\ngrace: 9\n")
    assert read_configuration(folder).version == configuration.version


def test_rules_that_this_release_cannot_read(folder: Path):
    """A forwarder that is gone is an error that says so, and a file name never leaves the folder."""
    configuration = read_configuration(folder)
    recorded = recorded_of(configuration)
    text = recorded.documents["integrations/crm.yaml"].replace("forwarder: webhook", "forwarder: gone")
    documents = {**recorded.documents, "integrations/crm.yaml": text}
    with pytest.raises(UnusableRulesError, match="gone"):
        read_rules(replace(recorded, documents=documents), "v", configuration)
    with pytest.raises(UnusableRulesError, match="outside"):
        read_rules(replace(recorded, documents={"../evil.yaml": "a: 1"}), "v", configuration)
    assert not (folder.parent / "evil.yaml").exists()


@pytest.mark.parametrize(
    ("text", "recorded"),
    [
        ("a: 1 # c\nb: '# no'\n", "a: 1\nb: '# no'\n"),
        ("settings: {x: y}\na: |\n  # text\n  b\n", "settings: {}\na: |\n  # text\n  b\n"),
        ("{settings: {x: y}, tests: [1, 2], a: 1}\n", "{settings: {}    , tests: []    , a: 1}\n"),
        ("settings:\n  x: y\n  # c\na: 1\n", "settings:\n  {}\n\na: 1\n"),
        ("tests:\n- 1\n- 2\na: 1\n", "tests:\n []\n\na: 1\n"),
        ("settings:\na: ü # c\n", "settings:\na: ü\n"),
        ("a: >-\n  x\n\n  y\n# c\nb: 1", "a: >-\n  x\n\n  y\n\nb: 1\n"),
        ("", "\n"),
    ],
)
def test_the_text_keeps_its_places(text: str, recorded: str):
    """Comments and left-out values become spaces, and the result is the same data without them."""
    document = Document.parse(text, "x.yaml")
    assert recorded_text(document) == recorded
    left = Document.parse(recorded, "x.yaml").data or {}
    data = document.data or {}
    empty = {key: type(value)() for key, value in data.items() if key in ("settings", "tests") and value is not None}
    assert left == {**data, **empty}
