"""Replace personal data in events, so that the same value always gets the same replacement."""

import ipaddress
import re
from collections.abc import Collection, Mapping
from datetime import date, timedelta
from functools import cached_property
from hashlib import blake2b
from typing import Any

PERSONAL_NAMES = frozenset(
    (
        *("userid", "anonymousid", "previousid", "customerid", "clientid", "deviceid", "visitorid", "externalid"),
        *("email", "emailaddress", "mail", "phone", "phonenumber", "mobile", "mobilenumber", "tel", "telephone", "fax"),
        *("firstname", "lastname", "middlename", "fullname", "displayname", "username", "nickname", "login"),
        *("surname", "givenname", "familyname", "avatar", "birthday", "birthdate", "dateofbirth", "dob", "gender"),
        *("address", "address1", "address2", "street", "streetaddress", "zip", "zipcode", "postalcode", "postcode"),
        *("billingaddress", "shippingaddress", "ip", "ipaddress", "latitude", "longitude", "lat", "lng", "lon"),
        *("advertisingid", "idfa", "idfv", "gaid", "devicetoken", "pushtoken"),
        *("ssn", "taxid", "passport", "iban", "cardnumber", "creditcard", "accountnumber"),
        *("fbp", "fbc", "fbclid", "gclid", "dclid", "gbraid", "wbraid", "ttclid", "msclkid", "twclid", "ga"),
        *("epik", "lifatid", "sccid", "rdtcid"),
    )
)
"""Keys whose values are replaced with everything below them; case, `_`, `-` and `$` in a key do not matter."""

PERSONAL_WITHIN = {
    "traits": frozenset(("id", "name", "title", "description", "website", "city")),
    "device": frozenset(("id", "name", "token")),
}
"""Further keys, only below these: elsewhere `name` is that of a page, a product or a library."""

KEPT_NAMES = frozenset(("country", "countrycode", "messageid", "writekey", "type", "event"))
"""Keys whose values are kept, also below replaced ones."""

_EMAIL = re.compile(r"[\w.+'-]+(?:@|%40)(?:[\w-]+\.)+[^\W\d_]{2,}")
_PARAMETER = re.compile(r"(?<=[?&;])([\w.$-]+)=([^&;#\s]+)")
_CARD = re.compile(r"(?<!\d)\d(?:[ -]?\d){12,18}(?!\d)")
_HEX = re.compile(r"(?=.*\d)[0-9a-fA-F-]{16,}")
_DATE = re.compile(r"\d{4}-\d{2}-\d{2}(?!\d)")
_FIRST_DAY = date(1940, 1, 1)
_DAYS = 25_000
_IPV4 = int(ipaddress.ip_address("198.18.0.0"))
_IPV6 = int(ipaddress.ip_address("2001:db8::"))
_LATITUDES = 90.0


class PersonalDataMask:
    """Replaces personal data in events; types, structure and the form of texts stay.

    The replacement depends only on the value and the key. Replaced are the values of PERSONAL_NAMES, other texts that
    are equal to one of them, and e-mail addresses, card numbers and parameters of URLs in any text.
    """

    def __init__(self, key: bytes) -> None:
        # BLAKE2b takes up to 64 bytes.
        self._key = blake2b(key).digest()

    def mask(self, event: Mapping[str, Any]) -> dict[str, Any]:
        """Return an event with its personal data replaced."""
        known: set[str] = set()
        _collect(event, "", personal=False, found=known)
        masked: dict[str, Any] = self._mask(event, "", personal=False, known=known)
        return masked

    def _mask(self, value: Any, within: str, *, personal: bool, known: Collection[str]) -> Any:
        if isinstance(value, Mapping):
            return {
                self._mask_text(key): self._mask(
                    each, _normal(key), personal=_is_personal(_normal(key), within, personal=personal), known=known
                )
                for key, each in value.items()
            }
        if isinstance(value, list):
            return [self._mask(each, within, personal=personal, known=known) for each in value]
        if isinstance(value, str):
            return self._replace(value) if personal or value in known else self._mask_text(value)
        if personal and isinstance(value, int | float) and not isinstance(value, bool):
            return self._replace_number(value)
        return value

    def _mask_text(self, text: str) -> str:
        """Replace addresses, card numbers and parameters of URLs in any text."""
        if "=" in text:
            text = _PARAMETER.sub(self._mask_parameter, text)
        if "@" in text or "%40" in text:
            text = _EMAIL.sub(lambda found: self._replace(found[0]), text)
        return _CARD.sub(self._mask_card, text) if len(text) >= 13 else text

    def _mask_parameter(self, found: re.Match[str]) -> str:
        return f"{found[1]}={self._replace(found[2])}" if _normal(found[1]) in PERSONAL_NAMES else found[0]

    def _mask_card(self, found: re.Match[str]) -> str:
        return self._replace(found[0]) if _is_card(found[0]) else found[0]

    def _replace(self, text: str) -> str:
        """Return the replacement of a text, in the same form."""
        source = _Source(self._key, text)
        for separator in ("@", "%40"):
            name, found, domain = text.rpartition(separator)
            if found and _EMAIL.fullmatch(text):
                company = _scramble(domain.partition(".")[0], _Source(self._key, domain))
                return f"{_scramble(name, source)}{separator}{company}.example"
        if re.match(r"[0-9a-fA-F.:]+$", text) and (address := source.address(text)):
            return address
        if _DATE.match(text):
            return source.day.isoformat() + text[10:]
        return _scramble(text, source)

    def _replace_number(self, number: float) -> float:
        source = _Source(self._key, repr(number))
        if isinstance(number, float):
            return round((source.number / 2**64 * 2 - 1) * _LATITUDES, 4)
        return int(_scramble(str(number), source))


class _Source:
    """A deterministic source of replacements for one text; upper and lower case have the same."""

    def __init__(self, key: bytes, text: str) -> None:
        self._key, self._text = key, text.casefold().encode(errors="surrogatepass")

    def stream(self, length: int) -> bytes:
        """Return this many bytes."""
        blocks = range(1 + length // 64)
        return b"".join(blake2b(self._text, key=self._key, salt=b"%016d" % block).digest() for block in blocks)

    @cached_property
    def number(self) -> int:
        """Return a 64-bit number."""
        return int.from_bytes(self.stream(8)[:8], "big")

    @property
    def day(self) -> date:
        """Return a plausible date of birth."""
        return _FIRST_DAY + timedelta(days=self.number % _DAYS)

    def address(self, text: str) -> str | None:
        """Return an IP address from a reserved range; None if the text is not an address."""
        try:
            version = ipaddress.ip_address(text).version
        except ValueError:
            return None
        if version == 4:
            return str(ipaddress.IPv4Address(_IPV4 + self.number % 2**17))
        return str(ipaddress.IPv6Address(_IPV6 + self.number))


def _scramble(text: str, source: _Source) -> str:
    """Replace letters by letters and digits by digits; other characters stay."""
    letters = "abcdef" if _HEX.fullmatch(text) else "abcdefghijklmnopqrstuvwxyz"
    result = []
    first = True
    for character, byte in zip(text, source.stream(len(text)), strict=False):
        if character.isdecimal():
            # A number does not begin with 0, and stays as long as it is.
            result.append("0" if first and character == "0" else str(1 + byte % 9 if first else byte % 10))
            first = False
        elif character.isalpha():
            letter = letters[byte % len(letters)]
            result.append(letter.upper() if character.isupper() else letter)
        else:
            result.append(character)
    return "".join(result)


def _collect(value: Any, within: str, *, personal: bool, found: set[str]) -> None:
    """Collect the texts under personal keys, which are then replaced everywhere."""
    if isinstance(value, Mapping):
        for key, each in value.items():
            name = _normal(key)
            _collect(each, name, personal=_is_personal(name, within, personal=personal), found=found)
    elif isinstance(value, list):
        for each in value:
            _collect(each, within, personal=personal, found=found)
    elif personal and isinstance(value, str) and len(value) > 3:
        # Shorter texts, such as "m" or "de", mean something else elsewhere.
        found.add(value)


def _is_personal(name: str, within: str, *, personal: bool) -> bool:
    if name in KEPT_NAMES:
        return False
    return personal or name in PERSONAL_NAMES or name in PERSONAL_WITHIN.get(within, ())


def _normal(key: str) -> str:
    return re.sub("[_$ -]", "", key).lower()


def _is_card(text: str) -> bool:
    """Return whether digits have the Luhn checksum of a card number."""
    digits = [int(each) for each in text if each.isdecimal()]
    doubled = [2 * each - 9 if each > 4 else 2 * each for each in digits[-2::-2]]
    return (sum(digits[-1::-2]) + sum(doubled)) % 10 == 0
