"""The fields that rules read are found without running them."""

from pathlib import Path

import pytest

from deploy.catalog.rule_reads import FieldRead, find_field_reads, is_within
from deploy.config.configuration import read_configuration

RULES = """integration: crm
forwarder: webhook
settings: {url: 'http://127.0.0.1:1'}
sources: [web]
rules:
  - name: order
    when: 'type = "track" and event = "Order" and properties.total >= 100'
    map:
      user: {"@hash": {value: $.userId, algorithm: sha256}}
      title: 'Order {{properties.order_id}} of {{context.page.title}}'
      lines: {"@each": [$.properties.products, {sku: $.sku, price: {"@number": $.price.net}}]}
      first: $.properties.products[0].name
      email: {"@default": [$.properties.email, $.context.traits.email]}
      all: $.properties.address
"""


@pytest.fixture(scope="module")
def reads(tmp_path_factory: pytest.TempPathFactory) -> list[FieldRead]:
    """The reads of the rules above."""
    folder = tmp_path_factory.mktemp("config")
    (folder / "integrations").mkdir()
    (folder / "sources").mkdir()
    (folder / "turnout.yaml").write_text("{}\n")
    (folder / "sources" / "web.yaml").write_text("source: web\nwrite_keys: ['${WEB_KEY}']\n")
    (folder / "integrations" / "crm.yaml").write_text(RULES)
    return find_field_reads(read_configuration(Path(folder)))


def test_paths_are_those_of_the_catalog(reads):
    """Conditions, templates, directives and the elements of lists are looked into."""
    assert {it.path for it in reads} == {
        "type", "event", "userId", "properties.total", "properties.order_id", "context.page.title",
        "properties.products", "properties.products[].sku", "properties.products[].price.net",
        "properties.products[].name", "properties.email", "context.traits.email", "properties.address",
    }  # fmt: skip
    assert {(it.reader, it.rule, it.preset) for it in reads} == {("crm", "order", False)}


def test_each_read_has_its_line_and_whether_it_is_hashed(reads):
    """A read names the file and line, and says whether only a digest of the value is sent."""
    by_path = {it.path: it for it in reads}
    assert (by_path["properties.total"].where, by_path["properties.total"].hashed) == ("integrations/crm.yaml:7", False)
    assert (by_path["userId"].where, by_path["userId"].hashed) == ("integrations/crm.yaml:9", True)


def test_reads_are_of_the_events_that_the_rule_may_match(reads):
    """A rule for one event or source reads no fields of other events or sources."""
    assert all(it.may_read("track", "Order", ["web", "app"]) for it in reads)
    assert not any(it.may_read("track", "Other", ["web"]) for it in reads)
    assert not any(it.may_read("page", None, ["web"]) for it in reads)
    assert not any(it.may_read("track", "Order", ["server"]) for it in reads)


@pytest.mark.parametrize(
    ("path", "outer", "within"),
    [
        ("properties.a.b", "properties.a", True),
        ("properties.a[].b", "properties.a", True),
        ("properties.ab", "properties.a", False),
        ("properties.a", "", True),
        ("properties.a", "properties.a.b", False),
    ],
)
def test_within(path, outer, within):
    """A field is within another if it is below it, not if its name only begins alike."""
    assert is_within(path, outer) is within
