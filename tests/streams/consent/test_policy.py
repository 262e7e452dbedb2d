from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streams.consent.policy import Consent, ConsentSettings
from transforms.documents import Document

CASES = Document.read(Path("tests/cases/consent.yaml").resolve()).data
CATEGORIES = ("ads", "stats")
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.sampled_from((*CATEGORIES, "x")),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from((*CATEGORIES, "x")), inner, max_size=3),
)
CONTEXTS = st.fixed_dictionaries(
    {},
    optional={
        "consent": JSON
        | st.fixed_dictionaries(
            {}, optional={"categoryPreferences": JSON, "globalPrivacyControl": JSON, "tcString": JSON}
        ),
        "consentManagement": JSON
        | st.fixed_dictionaries({}, optional={"allowedConsentIds": JSON, "deniedConsentIds": JSON}),
    },
)
SETTINGS = ConsentSettings.model_validate({"gpc_denies": ["ads"], "tcf": {"stats": {"purposes": [8]}}})


def lacking(wants: dict[str, Any], context: Any, source: Any = None, settings: ConsentSettings = SETTINGS) -> str:
    match = "all" if "all" in wants else "any"
    consent = Consent(tuple(map(settings.category, wants[match])), match, wants.get("assume", "denied"))
    return consent.lacking({"type": "page", "userId": "u", "context": context}, source)


@pytest.mark.parametrize("case", [pytest.param(case, id=case["does"]) for case in CASES])
def test_consent(case: dict[str, Any]):
    """An event lacks exactly the categories that the case says."""
    settings = ConsentSettings.model_validate(case.get("settings", {}))
    assert lacking(case["wants"], case.get("context"), case.get("source"), settings) == case["lacks"]


@given(CONTEXTS)
def test_nothing_but_a_plain_yes_is_consent(context: dict[str, Any]):
    """Whatever a context holds, a category is granted by `true` under its name or by its place in a list, only."""
    for category in CATEGORIES:
        if not lacking({"all": [category]}, context):
            consent, management = context.get("consent"), context.get("consentManagement")
            preferences = consent.get("categoryPreferences") if isinstance(consent, dict) else None
            allowed = management.get("allowedConsentIds") if isinstance(management, dict) else None
            assert (isinstance(preferences, dict) and preferences.get(category) is True) or (
                isinstance(allowed, list) and category in allowed
            )


@given(CONTEXTS, st.sampled_from((None, "granted", "denied")))
def test_all_is_stricter_than_any(context: dict[str, Any], source: Any):
    """An event with all categories has any of them; one with each alone has all."""
    every = lacking({"all": list(CATEGORIES)}, context, source)
    each = [lacking({"all": [category]}, context, source) for category in CATEGORIES]
    assert bool(every) == any(each)
    assert bool(lacking({"any": list(CATEGORIES)}, context, source)) == all(each)


@given(CONTEXTS, st.sampled_from((None, "granted", "denied")))
def test_more_denials_never_grant(context: dict[str, Any], source: Any):
    """Each form's denial holds an event back whatever else its context says."""
    for denied in (
        {"consent": {**_object(context.get("consent")), "globalPrivacyControl": True}},
        {"consent": {**_object(context.get("consent")), "categoryPreferences": {"ads": False}}},
        {"consentManagement": {**_object(context.get("consentManagement")), "deniedConsentIds": ["ads"]}},
    ):
        assert lacking({"all": ["ads"]}, context | denied, source) == "ads"


def _object(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}
