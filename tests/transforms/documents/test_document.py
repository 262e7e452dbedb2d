"""YAML files, read safely."""

import hashlib
import time

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support import fuzzing
from transforms import RuleError
from transforms.documents import Document
from transforms.documents import document as reader


def read(text):
    return Document.parse(text, "file.yaml")


def test_core_schema_only():
    """NO, times, dates and octals of YAML 1.1 are strings; JSON's types are read as in JSON."""
    text = "[NO, yes, 12:30, 2026-01-02, 0o17, 0x1f, 017, 1_000, 1.5, -2e3, .5, +7, ~, null, True, '1', 1.2.3, -, 0b1]"
    assert read(text).data == [
        *("NO", "yes", "12:30", "2026-01-02", 15, 31, 17, "1_000", 1.5, -2000.0, 0.5, 7),
        *(None, None, True, "1", "1.2.3", "-", "0b1"),
    ]


def test_an_empty_file_is_null():
    """A file with nothing in it, or comments only, holds null."""
    assert read("").data is None
    assert read("# nothing\n").data is None


def test_aliases_are_values():
    """An alias is what its anchor holds."""
    assert read("a: &x {b: 1}\nc: *x\n").data == {"a": {"b": 1}, "c": {"b": 1}}


def test_the_hash_is_of_the_content():
    """The hash changes with the content's bytes alone."""
    assert read("a: 1").hash == hashlib.sha256(b"a: 1").hexdigest()


def test_places():
    """Every value and key has its line and column; a missing one has its nearest ancestor's."""
    document = read("a:\n  b: [1,\n    {c: x}]\n'd e': ~\n")
    assert document.where() == (1, 1)
    assert document.where("a", "b", 1, "c") == (3, 9)
    assert document.where_key("a", "b", 1, "c") == (3, 6)
    assert document.where("d e") == (4, 8)
    assert document.where_key("d e") == (4, 1)
    assert document.where("a", "b", 7, "z") == (2, 6)
    assert document.where_key("a", "nothing") == (2, 3)


def test_reads_files(tmp_path):
    """A file is read as UTF-8, with or without a byte-order mark; a missing one is a mistake with its path."""
    path = tmp_path / "x.yaml"
    path.write_bytes("\ufeffa: é".encode())
    assert Document.read(path).data == {"a": "é"}
    with pytest.raises(RuleError, match="cannot read the file: No such file"):
        Document.read(tmp_path / "none.yaml")


BOMB = "a0: &a0 [x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"a{level}: &a{level} [{', '.join([f'*a{level - 1}'] * 9)}]\n" for level in range(1, 30)
)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: 1\nb: 2\na: 3", "file.yaml:3:1: the key 'a' is defined twice, on lines 1 and 3 (keep one of them)"),
        (
            "a: !!python/object:os.system x",
            "file.yaml:1:4: a tag: tag:yaml.org,2002:python/object:os.system (quote the value if it begins with `!`)",
        ),
        ("when: !exists(x)", "file.yaml:1:7: a tag: !exists(x) (quote the value if it begins with `!`)"),
        ("1: x", "file.yaml:1:1: a key that is not a string (quote it)"),
        ("{a: {{b}}}", "file.yaml:1:6: a key that is not a string (quote a value that holds `{{…}}`)"),
        ("[a]: 1", "file.yaml:1:1: a key that is not a string (quote it)"),
        ("a: .nan", "file.yaml:1:4: .nan is a number that JSON does not have (quote it if it is text)"),
        ("a: -.inf", "file.yaml:1:4: -.inf is a number that JSON does not have (quote it if it is text)"),
        ("a: 1e999", "file.yaml:1:4: the number 1e999 is out of range (quote it if it is text)"),
        ("a: " + "9" * 301, f"file.yaml:1:4: the number {'9' * 40}… is out of range (quote it if it is text)"),
        ("<<: {a: 1}", "file.yaml:1:1: a merge key, which YAML 1.2 does not have (write the keys out, or quote it)"),
        ("a: &x [*x]", "file.yaml:1:8: the alias *x contains itself (write the value out)"),
        ("a: *x", "file.yaml:1:4: the alias *x has no anchor before it (write &x)"),
        (BOMB, "file.yaml:5:35: aliases unfold to more than 50,000 values (write the values out)"),
        ("[" * 2000, "file.yaml:1:65: nested more than 64 levels deep (flatten it)"),
        ("- " * 2000, "file.yaml:1:129: nested more than 64 levels deep (flatten it)"),
        ("[" * 400_000, "file.yaml:1:65: nested more than 64 levels deep (flatten it)"),
        ("é: 😀\nb: " + "{a: " * 2000, "file.yaml:2:256: nested more than 64 levels deep (flatten it)"),
        ("? " * 2000, "file.yaml:1:129: nested more than 64 levels deep (flatten it)"),
        (
            f"a: &x {'[' * 40}{']' * 40}\nb: {'[' * 40}*x{']' * 40}",
            "file.yaml:2:44: nested more than 64 levels deep (flatten it)",
        ),
        (
            "a: 1\n--- \nb: 2",
            "file.yaml:3:1: a second document in the file (use one document per file: remove the `---`)",
        ),
        (
            'when: event = "A: B"',
            (
                "file.yaml:1:17: not YAML: mapping values are not allowed in this context"
                " (quote a condition, a path with `[`, and a key that begins with `@`)"
            ),
        ),
        (
            "a:\n\t- b",
            (
                "file.yaml:2:1: not YAML: while scanning for the next token found character that cannot start any token"
                " (indent with spaces, not tabs)"
            ),
        ),
        (
            "{a: ${X}}",
            (
                "file.yaml:1:6: not YAML: while parsing a flow mapping did not find expected ',' or '}'"
                " (quote a value that holds `{{…}}` or `${…}`)"
            ),
        ),
        ("a: [1\n", "file.yaml:2:1: not YAML: while parsing a flow sequence did not find expected ',' or ']'"),
        ("a: \x01", "file.yaml:1:4: not YAML: the character U+0001 (remove it, or write \\x01 in double quotes)"),
        (
            "é: 1\r\n\u2028b: \ufffe",
            "file.yaml:3:4: not YAML: the character U+FFFE (remove it, or write \\ufffe in double quotes)",
        ),
        (b"a: \xff", "file.yaml:1:1: the file is not UTF-8 text (save it as UTF-8)"),
        ("x" * 1_000_001, "file.yaml: the file is too large: 1,000,001 bytes (at most 1,000,000 are read)"),
        ("- x\n" * 50_001, "file.yaml:50000:3: the file has more than 50,000 values (split it)"),
    ],
)
def test_refused(text, message):
    """What is not wanted is refused at once with its place and what would be right."""
    least = 1.0
    for _ in range(3):
        start = time.process_time()
        with pytest.raises(RuleError) as caught:
            read(text)
        least = min(least, time.process_time() - start)
    assert str(caught.value) == message
    if len(text) < 10_000:
        assert least < 0.5


PARSERS = {"libyaml": yaml.CSafeLoader, "python": yaml.SafeLoader}


@pytest.mark.parametrize("parser", PARSERS)
@pytest.mark.parametrize(
    ("text", "column"),
    [
        ("[" * 2000, 65),
        ("[" * 70 + "@", 65),
        ("- " * 2000, 129),
        ("? " * 2000, 129),
        ("{a: " * 2000, 257),
        ("&a [" * 2000, 257),
    ],
)
def test_depth_is_refused_with_either_parser(text, column, parser, monkeypatch):
    """Nesting is refused at the 65th level, whatever limit the parser has."""
    monkeypatch.setattr(reader, "LOADER", PARSERS[parser])
    with pytest.raises(RuleError) as caught:
        read(text)
    assert str(caught.value) == f"file.yaml:1:{column}: nested more than 64 levels deep (flatten it)"


@pytest.mark.parametrize("parser", PARSERS)
def test_half_a_character_is_refused(parser, monkeypatch):
    """An escape that JSON in UTF-8 cannot hold is refused by either parser."""
    monkeypatch.setattr(reader, "LOADER", PARSERS[parser])
    with pytest.raises(RuleError, match=r"^file\.yaml:1:"):
        read('"\\ud800"')


@pytest.mark.parametrize("error", [RecursionError("too deep"), MemoryError(), ValueError("odd"), yaml.YAMLError()])
def test_anything_the_parser_raises_is_a_mistake(error, monkeypatch):
    """An exception of the parser becomes a mistake at the place that the parser has reached."""
    events = list(yaml.parse("a:\n  b: 1\n", Loader=yaml.CSafeLoader))

    def parse(_, **__):
        yield from events[:6]
        raise error

    monkeypatch.setattr(reader.yaml, "parse", parse)
    with pytest.raises(RuleError, match=r"^file\.yaml:2:4: not YAML: "):
        read("a:\n  b: 1\n")


@pytest.mark.parametrize("parser", PARSERS)
@settings(max_examples=fuzzing.examples(150))
@given(st.lists(st.sampled_from([*"[]{}:,-?&*!|>'\"%@#~ \n\t\\\r", "a", "é", "\x00", "\ufeff", "- ", ": ", "---\n"])))
def test_any_text_is_read_or_refused(parser, parts):
    """A text is a document or a mistake with its place, and never another exception."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(reader, "LOADER", PARSERS[parser])
        mistake = None
        try:
            read("".join(parts))
        except RuleError as error:
            mistake = error
    assert mistake is None or (mistake.line and mistake.column)
