"""What `@hash` hashes of a value, by the table in tests/cases/rules/normalizers.yaml."""

import hashlib
from pathlib import Path

import pytest

from transforms import MISSING, compile_mapping
from transforms.documents import Document

TABLE = Document.read(Path(__file__).parents[2] / "cases" / "rules" / "normalizers.yaml").data


@pytest.mark.parametrize(
    ("kind", "value", "hashed"), [(kind, value, hashed) for kind, rows in TABLE.items() for value, hashed in rows]
)
def test_normalizer(kind, value, hashed):
    """A value is hashed in its vendor's form; one that is not of its kind is missing."""
    normalize, _, country_code = kind.partition(" of ")
    options = {"country_code": country_code} if country_code else {}
    found = compile_mapping({"@hash": {"value": "$.value", "normalize": normalize, **options}})({"value": value})
    assert found == (MISSING if hashed is None else hashlib.sha256(hashed.encode()).hexdigest())
