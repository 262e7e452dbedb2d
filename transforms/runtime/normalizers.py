"""Normalize personal data as vendors require before hashing; a normalizer returns '' for an invalid value.

Sources: Meta, "Customer Information Parameters" of the Conversions API; Google, "Format your data" of enhanced
conversions; TikTok, "Hash and normalize" of the Events API; Reddit, "Match keys" of the Conversions API v3, for
`email_plain`.
"""

import re
import unicodedata
from collections.abc import Callable
from datetime import date

from transforms.runtime.phones import normalize_phone

_EMAIL = re.compile(r"[^@\s<>()\[\],;:\"\\]+@[^@\s<>()\[\],;:\"\\.]+(\.[^@\s<>()\[\],;:\"\\.]+)+")
_SPACE = re.compile(r"\s+")
_NO_ASCII_LETTERS = re.compile(r"[^a-z]+")
_NO_ASCII_NAME = re.compile(r"[^a-zA-Z0-9\s]+")
_STATE_CODE = re.compile(r"[A-Za-z]{2}-([A-Za-z0-9]{1,3})")
_NO_CODE = re.compile(r"[\s-]+")
_US_ZIP = re.compile(r"([0-9]{5})[0-9]{4}")
_UK_POSTCODE = re.compile(r"([a-z]{1,2}[0-9][a-z0-9]?[0-9])[a-z]{2}")
_POSTCODE = re.compile(r"(?=[a-z]*[0-9])(?!0+$)[a-z0-9]{3,10}")
_DATE = re.compile(r"(\d{4})([-/.]?)(\d{2})\2(\d{2})(?:[T ].*)?", re.ASCII | re.DOTALL)
_GERMAN_DATE = re.compile(r"(\d{1,2})\.(\d{1,2})\.(\d{4})", re.ASCII)
_YEARS = range(1900, 2100)
_GENDERS = {"f": "f", "female": "f", "woman": "f", "m": "m", "male": "m", "man": "m"}
_COUNTRIES = frozenset(
    re.findall(
        "..",
        "adaeafagaialamaoaqarasatauawaxazbabbbdbebfbgbhbibjblbmbnbobqbrbsbtbvbwbybzcacccdcfcgchcickclcm"
        "cncocrcucvcwcxcyczdedjdkdmdodzeceeegeheresetfifjfkfmfofrgagbgdgegfggghgiglgmgngpgqgrgsgtgugwgy"
        "hkhmhnhrhthuidieiliminioiqirisitjejmjojpkekgkhkikmknkpkrkwkykzlalblclilklrlsltlulvlymamcmdmemf"
        "mgmhmkmlmmmnmompmqmrmsmtmumvmwmxmymznancnenfngninlnonpnrnunzompapepfpgphpkplpmpnprpsptpwpyqare"
        "rorsrurwsasbscsdsesgshsisjskslsmsnsosrssstsvsxsysztctdtftgthtjtktltmtntotrtttvtwtzuaugumusuyuz"
        "vavcvevgvivnvuwfwsxkyeytzazmzw",
    )
)
_NAMES_OF_COUNTRIES = {
    "at": ("aut", "austria"),
    "au": ("aus", "australia"),
    "br": ("bra", "brazil"),
    "ca": ("can", "canada"),
    "ch": ("che", "switzerland"),
    "de": ("deu", "germany"),
    "es": ("esp", "spain"),
    "fr": ("fra", "france"),
    "gb": ("uk", "gbr", "unitedkingdom", "greatbritain"),
    "in": ("ind", "india"),
    "it": ("ita", "italy"),
    "jp": ("jpn", "japan"),
    "mx": ("mex", "mexico"),
    "nl": ("nld", "netherlands"),
    "us": ("usa", "unitedstates", "unitedstatesofamerica"),
}
"""ISO 3166-1 alpha-3 codes and English names that shops often have; any other name is missing."""
_US_STATES: dict[str, str] = dict(
    re.findall(
        "([a-z]+):([a-z]{2})",
        "alabama:al alaska:ak arizona:az arkansas:ar california:ca colorado:co connecticut:ct delaware:de "
        "districtofcolumbia:dc florida:fl georgia:ga hawaii:hi idaho:id illinois:il indiana:in iowa:ia kansas:ks "
        "kentucky:ky louisiana:la maine:me maryland:md massachusetts:ma michigan:mi minnesota:mn mississippi:ms "
        "missouri:mo montana:mt nebraska:ne nevada:nv newhampshire:nh newjersey:nj newmexico:nm newyork:ny "
        "northcarolina:nc northdakota:nd ohio:oh oklahoma:ok oregon:or pennsylvania:pa rhodeisland:ri "
        "southcarolina:sc southdakota:sd tennessee:tn texas:tx utah:ut vermont:vt virginia:va washington:wa "
        "westvirginia:wv wisconsin:wi wyoming:wy",
    )
)
"""The abbreviations by which Meta, Snapchat and Pinterest know the states of the USA."""
_CODES = {name: code for code, names in _NAMES_OF_COUNTRIES.items() for name in names}


def _composed(value: str) -> str:
    return value.strip() if value.isascii() else unicodedata.normalize("NFC", value).strip()


def _lower(value: str) -> str:
    return value.strip().lower()


def _email(value: str) -> str:
    email = _composed(value).lower()
    return email if _EMAIL.fullmatch(email) else ""


def _google_email(value: str) -> str:
    """Leave out the dots and the `+suffix` of Gmail names."""
    name, at, domain = _email(value).rpartition("@")
    if domain in {"gmail.com", "googlemail.com"}:
        name = name.partition("+")[0].replace(".", "")
    return f"{name}{at}{domain}" if name else ""


def _plain_email(value: str) -> str:
    """Leave out the dots and the `+suffix` of any name."""
    name, at, domain = _email(value).rpartition("@")
    name = name.partition("+")[0].replace(".", "")
    return f"{name}{at}{domain}" if name else ""


def _letters(value: str) -> str:
    """Return only the letters and combining marks of a text, in lower case; some scripts write vowels as marks."""
    if value.isascii():
        return _NO_ASCII_LETTERS.sub("", value.lower())
    return "".join(each for each in _composed(value).lower() if unicodedata.category(each)[0] in "LM")


def _name(value: str) -> str:
    if "@" in value or not _letters(value):
        return ""
    if value.isascii():
        return _SPACE.sub(" ", _NO_ASCII_NAME.sub("", value)).strip().lower()
    plain = (each for each in _composed(value).lower() if unicodedata.category(each)[0] in "LMN" or each.isspace())
    return _SPACE.sub(" ", "".join(plain)).strip()


def _city(value: str) -> str:
    return "" if "@" in value else _letters(value)


def _state(value: str) -> str:
    """Return the name of a state, or its code for the USA and for an ISO 3166-2 code (`GB-ENG` gives `eng`)."""
    code = _STATE_CODE.fullmatch(value.strip())
    name = _city(code[1] if code else value)
    return _US_STATES.get(name, name)


def _country(value: str) -> str:
    """Return the ISO 3166-1 alpha-2 code."""
    name = _letters(value)
    name = _CODES.get(name, name)
    return name if name in _COUNTRIES else ""


def _zip(value: str) -> str:
    """Return five digits of a US ZIP, area, district and sector of a UK postcode, any other code whole."""
    code = _NO_CODE.sub("", value).lower()
    if match := _US_ZIP.fullmatch(code) or _UK_POSTCODE.fullmatch(code):
        code = match[1]
    return code if _POSTCODE.fullmatch(code) else ""


def _gender(value: str) -> str:
    return _GENDERS.get(_lower(value), "")


def _date(value: str) -> str:
    """Return YYYYMMDD; 03/04/1990 is refused because it is ambiguous."""
    text = value.strip()
    if iso := _DATE.fullmatch(text):
        year, month, day = int(iso[1]), int(iso[3]), int(iso[4])
    elif german := _GERMAN_DATE.fullmatch(text):
        day, month, year = map(int, german.groups())
    else:
        return ""
    try:
        return date(year, month, day).isoformat().replace("-", "") if year in _YEARS else ""
    except ValueError:
        return ""


def _phone_e164(value: str, country_code: str = "") -> str:
    digits = normalize_phone(value, country_code)
    return f"+{digits}" if digits else ""


NORMALIZERS: dict[str, Callable[[str], str]] = {
    "none": str,
    "trim": str.strip,
    "lower": _lower,
    "email": _email,
    "email_google": _google_email,
    "email_plain": _plain_email,
    "phone": normalize_phone,
    "phone_e164": _phone_e164,
    "name": _name,
    "city": _city,
    "state": _state,
    "country": _country,
    "zip": _zip,
    "gender": _gender,
    "date": _date,
}
PHONES = ("phone", "phone_e164")
"""The normalizers that take the country code of numbers without one as their second argument."""
