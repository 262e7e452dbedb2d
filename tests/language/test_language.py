"""The texts of the code are plain English: see `patterns.py`."""

import pytest

from tests.language.patterns import PATTERNS, all_findings, findings


def test_texts_have_no_stiff_phrases():
    """No text of the code matches a pattern."""
    found = [
        f"{found.place}: {found.pattern!r}: {found.sentence}\n    write instead: {PATTERNS[found.pattern][1]}"
        for found in all_findings()
    ]
    assert not found, "\n".join(found)


@pytest.mark.parametrize(
    ("text", "pattern"),
    [
        ("An event that is none.", "is none"),
        ("What is no valid event is in `turnout.rejected`.", "what"),
        ("Raises RequestError where it may not send.", "where for if"),
        ("Return one result an item.", "a for per"),
        ("Keep a parcel for so long.", "so many"),
        ("Topics that are declared against the broker.", "held against"),
        ("The tests that stand in rule files.", "stand, lie"),
        ("Wait until somebody mends the settings.", "mend"),
        ("`on_failure` hears of each batch.", "hear, tell, say"),
        ("Ask Kafka, too, whether it is there.", "too, besides"),
        ("As Take.", "fragment"),
        ("Topics of others may have any number of partitions.", "others'"),
        ("the configuration has mistakes", "German"),
    ],
)
def test_patterns_find_their_examples(text: str, pattern: str):
    """Each pattern finds an example of its kind in a docstring, and with a value inside an f-string."""
    assert pattern in {found.pattern for found in findings(f'def f():\n    """{text}"""', "a.py")}
    assert pattern in {found.pattern for found in findings(f'raise E(f"{{x}}: {text}")', "a.py")} or text.startswith(
        "As"
    )


def test_every_pattern_has_an_example():
    """No pattern is untested."""
    tested = {
        mark.args[1][i][1] for mark in test_patterns_find_their_examples.pytestmark for i in range(len(mark.args[1]))
    }
    assert tested == set(PATTERNS)


@pytest.mark.parametrize(
    "text",
    [
        "Invalid events go to `turnout.rejected`.",
        "Raise RequestError if the sender is not allowed.",
        "Return one result per item.",
        "Hold the delivery for `seconds`.",
        "Mark dead letters as handled. The records stay in Kafka until retention removes them.",
    ],
)
def test_plain_sentences_pass(text: str):
    """Sentences as they should be match no pattern."""
    assert not list(findings(f'def f():\n    """{text}"""', "a.py"))
