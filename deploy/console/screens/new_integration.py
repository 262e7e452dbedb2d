"""Add an integration: choose a vendor, fill in its settings, try it on an event, and save it in shadow."""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.routing import Route

from deploy.config.models.console import SaveMode
from deploy.console.access.roles import Role
from deploy.console.backend import Backend
from deploy.console.file_saving import describe_saved, plan_saving, save_files
from deploy.console.pages import ConsolePage, form_page, page
from deploy.dryrun.taken_event import find_taken_event
from deploy.editing.drafts import CheckedDrafts, check_drafts
from deploy.editing.new_integration import FieldsError, IntegrationForm, SettingField, find_fields, write_integration
from deploy.editing.saving import Change
from deploy.scaffold.scaffold import NAME
from forwarders import registry
from forwarders.api.contract import Forwarder
from streams.kafka.settings import BrokerError
from transforms import RuleError

PREFIX = "f-"
"""Begins the names of the form's fields for settings, so that they differ from its own."""


class NewIntegration:
    """The pages that add an integration."""

    def __init__(self, backend: Backend) -> None:
        self._backend = backend

    def routes(self) -> Sequence[Route]:
        """Return the routes."""
        return [
            *page("/integrations/-/new", self._show, needs=Role.EDITOR),
            *form_page("/integrations/-/new", self._submit, needs=Role.EDITOR),
        ]

    async def _show(self, request: Request) -> ConsolePage:
        vendor = request.query_params.get("vendor", "")
        if not vendor:
            return ConsolePage("Add an integration", "new_integration_vendor.html", {"vendors": _vendors()})
        forwarder = _find(vendor)
        name = self._free_name(vendor)
        texts = {field.name: field.example for field in find_fields(forwarder.contract, name)}
        return await self._page(forwarder, IntegrationForm(name, texts, forwarder.preset() is not None))

    async def _submit(self, request: Request, form: Mapping[str, str]) -> ConsolePage:
        """Check the form, and show what would be saved; with `add`, save it."""
        forwarder = _find(form.get("vendor", ""))
        filled = IntegrationForm(
            form.get("name", ""),
            {name.removeprefix(PREFIX): text for name, text in form.items() if name.startswith(PREFIX)},
            form.get("preset") == "yes",
            [name for name in self._backend.configuration.source_files if form.get(f"source-{name}") == "yes"],
            [each.strip() for each in form.get("consent", "").split(",") if each.strip()],
        )
        try:
            text = self._write(filled, forwarder)
        except FieldsError as error:
            return await self._page(forwarder, filled, error.problems, status=400)
        if form.get("add") == "yes":
            return await self._save(request, filled, text)
        checked = await asyncio.to_thread(
            check_drafts, self._backend.configuration.folder, {self._path(filled): text}, self._path(filled)
        )
        problems, others = _sort_errors(checked.errors_in(self._path(filled)), forwarder)
        if problems or others:
            return await self._page(forwarder, filled, problems, others, status=400)
        preview = {
            "text": text,
            "warnings": [it.message for it in checked.warnings if it.path == str(self._path(filled))],
            "unset": _unset(checked, self._path(filled)),
            "trial": await self._try(checked, filled.name),
        }
        return await self._page(forwarder, filled, preview=preview)

    async def _page(
        self,
        forwarder: type[Forwarder[Any]],
        form: IntegrationForm,
        problems: Mapping[str, str] | None = None,
        others: Sequence[str] = (),
        preview: Mapping[str, Any] | None = None,
        status: int = 200,
    ) -> ConsolePage:
        contract, problems = forwarder.contract, problems or {}
        file = f"integrations/{form.name if NAME.fullmatch(form.name) else 'new'}.yaml"
        data = {
            "vendor": contract.name,
            "title": contract.title,
            "documentation": contract.documentation,
            "integration": form.name,
            "has_preset": forwarder.preset() is not None,
            "preset": form.preset,
            "fields": [
                {**asdict(field), "text": _shown(field, form, problems), "problem": problems.get(field.name)}
                for field in find_fields(contract, form.name or contract.name)
            ],
            "sources": {name: name in form.sources for name in self._backend.configuration.source_files},
            "consent": ", ".join(form.consent),
            "problem": problems.get(""),
            "others": list(others),
            "preview": preview,
            "saving": await plan_saving(self._backend, file),
        }
        return ConsolePage(f"Add {contract.title}", "new_integration.html", data, status)

    async def _save(self, request: Request, form: IntegrationForm, text: str) -> ConsolePage:
        change = Change(f"integrations/{form.name}.yaml", text, "")
        saved = await save_files(self._backend, request, [change], f"Add {form.name} in shadow")
        data = {
            "integration": form.name,
            "file": change.name,
            "says": describe_saved(saved),
            "proposal": saved.mode is SaveMode.PROPOSAL,
        }
        return ConsolePage(f"Added {form.name}", "new_integration_saved.html", data)

    async def _try(self, checked: CheckedDrafts, name: str) -> dict[str, Any]:
        """Return the request for a recent event, with masked secrets; nothing is sent."""
        if checked.configuration is None:
            return {"problem": "the folder has errors in other files", "event": None}
        # turnout.yaml is read at the start only.
        draft = replace(checked.configuration, settings=self._backend.configuration.settings)
        try:
            taken = await asyncio.to_thread(find_taken_event, draft, name)
        except BrokerError as error:
            return {"problem": str(error), "event": None}
        return {"problem": None, "event": taken and taken.data()}

    def _write(self, form: IntegrationForm, forwarder: type[Forwarder[Any]]) -> str:
        """Return the text of the file; raises FieldsError, in which the key "" has the problem of the name."""
        problem = None
        if not NAME.fullmatch(form.name):
            problem = "use a-z, 0-9, - and _, starting with a letter or digit"
        elif self._path(form).exists():
            problem = f"integrations/{form.name}.yaml exists already"
        try:
            text = write_integration(form, forwarder) if problem is None else ""
        except FieldsError as error:
            raise FieldsError({**error.problems, **({"": problem} if problem else {})}) from None
        if problem:
            raise FieldsError({"": problem})
        return text

    def _path(self, form: IntegrationForm) -> Path:
        return self._backend.configuration.folder / "integrations" / f"{form.name}.yaml"

    def _free_name(self, vendor: str) -> str:
        names = self._backend.configuration.integrations
        numbered = (f"{vendor}{number}" for number in range(2, len(names) + 3))
        return vendor if vendor not in names else next(name for name in numbered if name not in names)


def _vendors() -> list[dict[str, Any]]:
    found = []
    for name in registry.names():
        try:
            forwarder = registry.find(name)
        except registry.UnknownForwarderError:
            continue
        contract = forwarder.contract
        found.append({"vendor": name, "title": contract.title, "preset": forwarder.preset() is not None})
    return sorted(found, key=lambda it: str(it["title"]).lower())


def _find(vendor: str) -> type[Forwarder[Any]]:
    try:
        return registry.find(vendor)
    except registry.UnknownForwarderError as error:
        raise HTTPException(404, f"{error}.") from None


def _shown(field: SettingField, form: IntegrationForm, problems: Mapping[str, str]) -> str:
    """Return a field's text, or an empty one for a secret entered as plain text."""
    return "" if field.kind == "secret" and field.name in problems else form.settings.get(field.name, "")


def _sort_errors(errors: Sequence[RuleError], forwarder: type[Forwarder[Any]]) -> tuple[dict[str, str], list[str]]:
    """Return the errors by form field, and the remaining ones."""
    names = set(forwarder.contract.settings.model_fields)
    by_field: dict[str, str] = {}
    others = []
    for error in errors:
        place, _, message = error.message.partition(": ")
        key = place.removeprefix("settings.").partition(".")[0]
        hint = f" ({error.hint})" if error.hint else ""
        if place.startswith("settings.") and key in names and message:
            by_field[key] = f"{message}{hint}"
        else:
            others.append(f"{error.message}{hint}")
    return by_field, others


def _unset(checked: CheckedDrafts, path: Path) -> list[str]:
    """Return the file's variables that are not set for the console; they may be set for workers."""
    found = checked.configuration.unset if checked.configuration else ()
    return [each.variable for each in found if each.error.path == str(path)]
