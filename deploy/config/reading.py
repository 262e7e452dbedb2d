"""Read the files of a configuration folder, fill in variables, and collect the errors."""

import hashlib
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from deploy.config.diagnostics import COLLECTION_MESSAGES, Place, find_issues, find_secrets
from deploy.config.environment import REFERENCE, Unresolved, fill, find_texts, has_reference, is_reference
from deploy.config.settings import TurnoutSettings, variable
from streams.steps.enrichment.files import Files
from transforms import RuleError
from transforms.documents import Document

Model = TypeVar("Model", bound=BaseModel)


@dataclass(frozen=True, slots=True)
class Unset:
    """An environment variable that a file needs and that is not set; `file:PATH` for a missing file."""

    variable: str
    error: RuleError


@dataclass(frozen=True, slots=True)
class Recorded:
    """Inputs that a folder of recorded rules does not have; `settings` are those of turnout.yaml.

    `presets` has the text of presets by name, instead of those of the installed release. `files` has paths of the files
    that enrichments read, by the names in the sources' files. Settings of vendors were not recorded.
    """

    settings: TurnoutSettings
    presets: Mapping[str, str]
    files: Mapping[Path, Path]


class Reading:
    """The state of reading one folder: `hash` covers the rules, `files` are the files that the folder refers to.

    `read` has the files of plans, sources and integrations, `presets` those of the presets by name. `recorded` is set
    if the folder has recorded rules. `drafts` are texts that replace the content of files, which need not exist.
    With `only`, other integrations are left out.
    """

    def __init__(
        self,
        folder: Path,
        recorded: Recorded | None = None,
        drafts: Mapping[Path, str] | None = None,
        only: Path | None = None,
    ) -> None:
        self.folder, self.recorded, self.drafts, self._only = folder, recorded, drafts or {}, only
        self.errors: list[RuleError] = []
        self.unset: list[Unset] = []
        self.warnings: list[RuleError] = []
        self.hash = hashlib.sha256()
        self.files = Files(folder, recorded.files if recorded else None)
        self.read: list[Document] = []
        self.presets: dict[str, Document] = {}

    def report(self, document: Document, message: str, hint: str | None = None, at: Place = ()) -> None:
        """Record an error at a place of a file; `hint` suggests a valid value."""
        self.errors.append(document.error(message, hint, at=at))

    def documents(self, kind: str) -> Iterator[Document]:
        """Yield the YAML files of a folder in the order of their names, without the tests in `*.test.yaml`."""
        drafts = (path for path in self.drafts if path.parent == self.folder / kind)
        for path in sorted({*(self.folder / kind).glob("*"), *drafts}):
            if self._only is not None and kind == "integrations" and path != self._only:
                continue
            if path.suffix == ".yml":
                self.errors.append(RuleError("is not read", "name it .yaml", path=str(path)))
            elif path.suffix == ".yaml" and not path.name.endswith(".test.yaml"):
                try:
                    draft = self.drafts.get(path)
                    document = Document.read(path) if draft is None else Document.parse(draft, str(path))
                    keys_of(document)
                except RuleError as error:
                    self.errors.append(error)
                else:
                    self.read.append(document)
                    yield document

    def check_name(self, document: Document, key: str) -> None:
        """Record an error if a file's name differs from its value at `key`."""
        stem = Path(document.path).stem
        name = keys_of(document).get(key)
        if isinstance(name, str) and name != stem:
            self.report(document, f"{key}: the name {name!r} differs from the file name", f"write {stem!r}", at=(key,))

    def fill(self, document: Document, model: type[BaseModel], data: Any, at: Place = ()) -> tuple[Any, set[Place]]:
        """Return the data at `at` with references replaced, and the places whose values are unknown.

        Secrets must be references. Other values may be references only in the settings of forwarders and enrichments.
        """
        unknown: set[Place] = set()
        texts = dict(find_texts(data, at))
        secrets = set(find_secrets(model, data, at))
        for place in secrets:
            if not is_reference(texts.get(place)):
                *_, key = [step for step in place if isinstance(step, str)]
                name = f"{Path(document.path).stem}_{key}".replace("-", "_").upper()
                hint = f"set it in the environment, and write '${{{name}}}'"
                self.report(document, f"{dotted(place)}: a secret must not be in the file", hint, at=place)
                unknown.add(place)
        for place in texts.keys() - secrets:
            if has_reference(texts[place]) and not (at and is_reference(texts[place])):
                hint = "a reference must be the whole value" if at else "only secrets may be references"
                if at and not REFERENCE.search(texts[place]):
                    hint = "write '${file:/run/secrets/NAME}', with an absolute path"
                if model is TurnoutSettings:
                    hint = f"set {variable(place)} in the environment"
                self.report(document, f"{dotted(place)}: `${{…}}` is not replaced here", hint, at=place)
                unknown.add(place)
        unset: dict[Place, Unresolved] = {}
        filled = fill(data, unset, at)
        for place, each in unset.items():
            error = document.error(each.message, each.hint, at=place)
            if each.wrong:
                self.errors.append(error)
            else:
                self.unset.append(Unset(each.name, error))
        return filled, unknown | unset.keys()

    def validate(
        self, document: Document, model: type[Model], data: Any, at: Place = (), unknown: Collection[Place] = ()
    ) -> Model | None:
        """Return the data as a model, or None if it is invalid; most errors about unknown values are ignored."""
        try:
            return model.model_validate(data)
        except ValidationError as error:
            for issue in find_issues(error, model, at, data):
                if issue.kind in COLLECTION_MESSAGES or not any(_overlap(issue.place, place) for place in unknown):
                    self.errors.append(issue.within(document))
            return None


def keys_of(document: Document) -> dict[str, Any]:
    """Return the top-level keys of a file; raises RuleError if it is not a mapping."""
    if document.data is None:
        return {}
    if not isinstance(document.data, dict):
        raise document.error("the file is not a mapping", "write `key: value` lines")
    return document.data


def dotted(place: Place) -> str:
    """Write a place with dots."""
    return ".".join(map(str, place))


def _overlap(one: Place, other: Place) -> bool:
    """Return whether one place contains the other."""
    shorter = min(len(one), len(other))
    return one[:shorter] == other[:shorter]
