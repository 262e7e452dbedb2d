"""Reads files of a configuration folder, fills in the environment, and gathers what is wrong in them."""

import hashlib
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from deploy.config.diagnostics import WANTS_MORE, Place, find_issues, find_secrets
from deploy.config.environment import REFERENCE, Unresolved, fill, find_texts, has_reference, is_reference
from deploy.config.settings import TurnoutSettings, variable
from streams.steps.enrichment.files import Files
from transforms import RuleError
from transforms.documents import Document

Model = TypeVar("Model", bound=BaseModel)


@dataclass(frozen=True, slots=True)
class Unset:
    """An environment variable that a file names and that is not set; or `file:` and a file that is not there."""

    variable: str
    error: RuleError


class Reading:
    """One folder while it is read: `hash` is over what the rules in force are, `files` are those that it names."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.mistakes: list[RuleError] = []
        self.unset: list[Unset] = []
        self.warnings: list[RuleError] = []
        self.hash = hashlib.sha256()
        self.files = Files(folder)

    def report(self, document: Document, message: str, hint: str | None = None, at: Place = ()) -> None:
        """Note what is wrong at a place of a file, and what would be right."""
        self.mistakes.append(document.error(message, hint, at=at))

    def documents(self, kind: str) -> Iterator[Document]:
        """The YAML files of a folder in the order of their names; what tests a file (`*.test.yaml`) is none of them."""
        for path in sorted((self.folder / kind).glob("*")):
            if path.suffix == ".yml":
                self.mistakes.append(RuleError("is not read", "name it .yaml", path=str(path)))
            elif path.suffix == ".yaml" and not path.name.endswith(".test.yaml"):
                try:
                    document = Document.read(path)
                    keys_of(document)
                except RuleError as mistake:
                    self.mistakes.append(mistake)
                else:
                    yield document

    def check_name(self, document: Document, key: str) -> None:
        """Note a file whose own name is not what it says at `key`."""
        stem = Path(document.path).stem
        name = keys_of(document).get(key)
        if isinstance(name, str) and name != stem:
            self.report(document, f"{key}: the name {name!r} is not that of the file", f"write {stem!r}", at=(key,))

    def fill(self, document: Document, model: type[BaseModel], data: Any, at: Place = ()) -> tuple[Any, set[Place]]:
        """The data at `at` with its variables replaced, and the places whose real value is not known.

        A secret must come from a variable. In a forwarder's settings anything may, elsewhere only a secret.
        """
        unknown: set[Place] = set()
        texts = dict(find_texts(data, at))
        secrets = set(find_secrets(model, data, at))
        for place in secrets:
            if not is_reference(texts.get(place)):
                *_, key = [step for step in place if isinstance(step, str)]
                name = f"{Path(document.path).stem}_{key}".replace("-", "_").upper()
                hint = f"set it in the environment, and write '${{{name}}}'"
                self.report(document, f"{dotted(place)}: a secret is written out", hint, at=place)
                unknown.add(place)
        for place in texts.keys() - secrets:
            if has_reference(texts[place]) and not (at and is_reference(texts[place])):
                hint = "it is where it is the whole value" if at else "only secrets are"
                if at and not REFERENCE.search(texts[place]):
                    hint = "write '${file:/run/secrets/NAME}', with the whole path"
                if model is TurnoutSettings:
                    hint = f"set {variable(place)} in the environment"
                self.report(document, f"{dotted(place)}: `${{…}}` is not replaced here", hint, at=place)
                unknown.add(place)
        unset: dict[Place, Unresolved] = {}
        filled = fill(data, unset, at)
        for place, each in unset.items():
            error = document.error(each.message, each.hint, at=place)
            if each.wrong:
                self.mistakes.append(error)
            else:
                self.unset.append(Unset(each.name, error))
        return filled, unknown | unset.keys()

    def validate(
        self, document: Document, model: type[Model], data: Any, at: Place = (), unknown: Collection[Place] = ()
    ) -> Model | None:
        """The data as a model, None when that complains. About a value that is not known, few complaints count."""
        try:
            return model.model_validate(data)
        except ValidationError as error:
            for complaint in find_issues(error, model, at, data):
                if complaint.kind in WANTS_MORE or not any(_touch(complaint.place, place) for place in unknown):
                    self.mistakes.append(complaint.within(document))
            return None


def keys_of(document: Document) -> dict[str, Any]:
    """The top of a file; raises RuleError where that is no mapping."""
    if document.data is None:
        return {}
    if not isinstance(document.data, dict):
        raise document.error("the file is not a mapping", "write `key: value` lines")
    return document.data


def dotted(place: Place) -> str:
    """A place as people write it."""
    return ".".join(map(str, place))


def _touch(one: Place, other: Place) -> bool:
    """Whether one place lies within the other."""
    shorter = min(len(one), len(other))
    return one[:shorter] == other[:shorter]
