"""Secrets are masked in each form that a request or an answer may give them."""

import re
from base64 import b64encode, urlsafe_b64encode
from urllib.parse import quote, quote_plus

import orjson
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from pydantic import BaseModel, SecretStr

from streams.delivery.outcomes.masking import MAX_LEARNED_TOKENS, Mask


class Inner(BaseModel):
    token: SecretStr


class Settings(BaseModel):
    url: str = "https://example.com"
    key: SecretStr = SecretStr("")
    inner: Inner | None = None
    headers: dict[str, SecretStr] = {}
    more: list[Inner] = []


ENCODINGS = {
    "plain": str,
    "json": lambda text: orjson.dumps(text).decode()[1:-1],
    "quote": quote,
    "quote all": lambda text: quote(text, safe=""),
    "quote in lower case": lambda text: re.sub("%..", lambda match: match[0].lower(), quote(text, safe="")),
    "quote_plus": quote_plus,
}


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_encoded(encoding: str):
    """The secret is removed completely, and the text around it stays."""
    secret = 'p+/= "ä\n\\key'
    text = f"before {ENCODINGS[encoding](secret)} behind"
    assert Mask(Settings(key=SecretStr(secret)))(text) == "before *** behind"


@given(st.text(min_size=8).filter(lambda text: text.isprintable()), st.binary(max_size=12), st.binary(max_size=12))
def test_base64(secret: str, before: bytes, behind: bytes):
    """Wherever it is in encoded data, at most the digits that it shares with its neighbours are left."""
    mask = Mask(Settings(key=SecretStr(secret)))
    for encode in (b64encode, urlsafe_b64encode):
        text = encode(before + secret.encode() + behind).decode()
        assume("*" not in text)
        masked = mask(text)
        assert "***" in masked
        assert len(masked.replace("***", "")) <= len(b64encode(before)) + len(b64encode(behind)) + 4


def test_wherever_it_stands():
    """Secrets are found in nested models, mappings and lists; the longest first if one contains another."""
    settings = Settings(
        key=SecretStr("abc"),
        inner=Inner(token=SecretStr("abcdef")),
        headers={"X": SecretStr("h1dden")},
        more=[Inner(token=SecretStr("l1sted"))],
    )
    assert Mask(settings)("abc abcdef h1dden l1sted https://example.com") == "*** *** *** *** https://example.com"


def test_without_secrets():
    """Other text is unchanged, and an empty secret is ignored."""
    assert Mask(Settings())("text") == "text"


def test_learnt():
    """Secrets that come later are masked, and forgotten after some more; those of the settings never."""
    mask = Mask(Settings(key=SecretStr("settled")))
    mask.learn("first")
    assert mask("settled first") == "*** ***"
    for n in range(MAX_LEARNED_TOKENS):
        mask.learn(f"learnt-{n}.")
    assert mask("settled first learnt-0.") == "*** first ***"


@pytest.mark.parametrize("start", range(20, 45))
@pytest.mark.parametrize("encoding", ENCODINGS)
def test_a_secret_across_the_cut(encoding: str, start: int):
    """No part of a secret is left of a text that is cut within it, as text or as bytes."""
    secret = 'p+/= "ä\n\\key'
    encoded = ENCODINGS[encoding](secret)
    text = "ö" * start + encoded + "." * 50
    mask = Mask(Settings(key=SecretStr(secret)))
    expected = ("ö" * start + "***" if start < 40 else "ö" * 40) + "." * max(0, 40 - start - len(encoded))
    assert mask.excerpt(text, 40) == mask.excerpt(text.encode(), 40) == expected


def test_an_excerpt_without_secrets_is_the_beginning():
    """Text is cut at the length asked for, and no character is split."""
    assert Mask(Settings()).excerpt("öö" * 10, 5) == Mask(Settings()).excerpt(("öö" * 10).encode(), 5) == "ööööö"


def test_secrets_behind_the_cut_do_not_move_into_it():
    """Text after the cut never appears, however much was masked before it."""
    mask = Mask(Settings(key=SecretStr("secret-secret-secret")))
    assert mask.excerpt("secret-secret-secret" * 10, 30) == "******"
