"""Parse the rules of one document, before they are merged with those of a preset."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from transforms.documents import Document, Location, RuleError
from transforms.model.directive import Directive
from transforms.model.nodes import Condition, Node
from transforms.syntax.parser import Parser

MAX_RULES = 1_000

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_. -]*")
_KEYS = ("name", "when", "map", "drop")


@dataclass(frozen=True, slots=True)
class WrittenRule:
    """A parsed rule. `own` is its map without the common map; `sound` is False if it has an error."""

    name: str
    place: Location
    condition: Condition | None
    own: Node | None
    drop: bool = False
    sound: bool = True


class RuleFile:
    """The common map, the rules, `otherwise` and `match` of one document.

    Args:
        document: The file of an integration, a source or a preset.
        errors: Receives every error in it.
        directives: The directives of the language, by name.
        unnamed: The prefix of the names of rules without a name, before their number.
    """

    def __init__(
        self,
        document: Document,
        errors: list[RuleError],
        directives: Mapping[str, Directive],
        unnamed: str = "rule-",
    ) -> None:
        self._errors = errors
        self._parser = Parser(errors, directives)
        self._unnamed = unnamed
        self.common: Node | None = None
        self.rules: list[WrittenRule] = []
        self.otherwise: WrittenRule | None = None
        self.match_all: bool | None = None
        data, root = document.data, Location(document)
        self.says_otherwise = isinstance(data, dict) and "otherwise" in data
        if not isinstance(data, dict):
            errors.append(root.error(f"an integration is an object, not {Parser.type_of(data)}", "write key: value"))
            return
        self.common = self._map(data, root)
        self._read_rules(data.get("rules", []), root.at("rules"))
        if self.says_otherwise:
            self._read_otherwise(data["otherwise"], root.at("otherwise"))
        if "match" in data:
            self._read_match(data["match"], root.at("match"))

    def _read_match(self, data: Any, place: Location) -> None:
        if data in ("first", "all"):
            self.match_all = data == "all"
        else:
            hint = Parser.nearest(data, ("first", "all"))
            self._errors.append(place.error(f"match is first or all, not {Parser.shown(data)}", hint))

    def _read_otherwise(self, data: Any, place: Location) -> None:
        if isinstance(data, dict):
            node = self._parser.collect(self._parser.value, place, data, place)
            self.otherwise = WrittenRule("otherwise", place, None, node)
        elif data != "drop":
            self._errors.append(place.error(f"otherwise is drop or a map, not {Parser.shown(data)}"))

    def _read_rules(self, data: Any, place: Location) -> None:
        if not isinstance(data, list):
            self._errors.append(place.error(f"rules is a list, not {Parser.type_of(data)}", "begin each with `- `"))
            return
        if len(data) > MAX_RULES:
            self._errors.append(
                place.error(f"there are more than {MAX_RULES:,} rules", "use @lookup, or split the file")
            )
            return
        first: dict[str, Location] = {}
        for number, item in enumerate(data, 1):
            rule = self._rule(item, place.at(number - 1), number)
            if rule is None:
                continue
            if rule.name in first:
                message = f"another rule is called {rule.name!r}, on line {first[rule.name].line}"
                self._errors.append(rule.place.error(message, "give each its own name"))
            first.setdefault(rule.name, rule.place)
            self.rules.append(rule)

    def _rule(self, data: Any, place: Location, number: int) -> WrittenRule | None:
        if not isinstance(data, dict):
            self._errors.append(place.error(f"a rule is an object, not {Parser.type_of(data)}", "name, when and map"))
            return None
        known_errors = len(self._errors)
        for key in data:
            if key not in _KEYS:
                hint = Parser.nearest(key, _KEYS) or f"there are {', '.join(_KEYS)}"
                self._errors.append(place.at(key).error(f"a rule has no {key!r}", hint, key=True))
        name = self._name(data, place.at("name"), number)
        condition = None
        if "when" in data:
            when = place.at("when")
            condition = self._parser.collect(self._parser.condition, when, data["when"], when)
        drop = self._drop(data, place.at("drop"))
        own = self._map(data, place)
        return WrittenRule(name, place, condition, own, drop, sound=len(self._errors) == known_errors)

    def _drop(self, data: Mapping[str, Any], place: Location) -> bool:
        drop = data.get("drop", False)
        if not isinstance(drop, bool):
            self._errors.append(place.error(f"drop is true or false, not {Parser.shown(drop)}"))
        elif drop and "map" in data:
            self._errors.append(place.error("a rule that drops has no map", "remove one of them", key=True))
        return drop is True

    def _name(self, data: Mapping[str, Any], place: Location, number: int) -> str:
        unnamed = f"{self._unnamed}{number}"
        name = data.get("name", unnamed)
        if name == "otherwise":
            self._errors.append(place.error("the name 'otherwise' is reserved", "choose another name"))
        elif not isinstance(name, str) or not _NAME.fullmatch(name):
            hint = "letters, digits, spaces, `.`, `_` and `-`"
            self._errors.append(place.error(f"{Parser.shown(name)} is not a valid rule name", hint))
        else:
            return name
        return unnamed

    def _map(self, data: Mapping[str, Any], place: Location) -> Node | None:
        if "map" not in data:
            return None
        shape, place = data["map"], place.at("map")
        if not isinstance(shape, dict):
            self._errors.append(place.error(f"a map is an object, not {Parser.type_of(shape)}", "write key: value"))
            return None
        node: Node = self._parser.collect(self._parser.value, place, shape, place)
        return node
