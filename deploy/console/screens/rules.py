"""Rules: edit configuration files and see the result for a real event beside them."""

import asyncio
import difflib
import json
import re
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.routing import Route

from deploy.config.configuration import Configuration
from deploy.config.models.console import SaveMode
from deploy.console.backend import Backend
from deploy.console.file_saving import save_changes
from deploy.console.pages import ConsolePage, ConsoleScreen, form_page, page, session_of, wants_json
from deploy.dryrun.recorded_events import RecordedEvent, read_newest
from deploy.editing.comparison import MAX_EVENTS, QUICK_EVENTS, CancelledError, RecentEvents, compare_events
from deploy.editing.condition_rows import COMPARISONS, UNARY
from deploy.editing.config_files import ConfigFiles, OpenedFile, UnknownFileError
from deploy.editing.conversions import CONVERSIONS
from deploy.editing.drafts import check_drafts
from deploy.editing.forms import FormError, apply_form, show_form, take_from_preset
from deploy.editing.saving import BrokenError, Change, ReadOnlyError, Saved, SaveError, Saver, StaleError
from deploy.editing.trial import TryEvent, integrations_of, only_of, try_draft
from deploy.issues.group_samples import read_group_events
from deploy.ledger.search import find_place
from forwarders import registry
from streams.kafka.settings import BrokerError
from streams.routing.decoding import named_source
from transforms.directives import DIRECTIVES
from transforms.documents import Document, RuleError

MAX_CHOICES = 25
"""Recent events that can be chosen beside a rule."""

RELOAD_SECONDS = 5.0
"""Seconds that a save waits until the console itself uses the new rules."""

MAX_MESSAGE = 200

_GROUP = re.compile("[0-9a-f]{12}")
_EVENT_NAME = re.compile(rb'"(?:event|name)"\s*:\s*"([^"\\]{1,60})"')
_TYPE = re.compile(rb'"type"\s*:\s*"([a-z]{1,20})"')


class RulesScreen(ConsoleScreen):
    """The files with rules, and their editor."""

    title: ClassVar[str] = "Rules"
    path: ClassVar[str] = "/rules"
    key: ClassVar[str] = "r"

    def __init__(self, backend: Backend) -> None:
        super().__init__(backend)
        self._recent = RecentEvents()
        self._comparisons: dict[str, object] = {}

    def routes(self) -> Sequence[Route]:
        """Return the routes."""
        return [
            *page("/rules", self._list),
            *form_page("/rules/draft/try", self._try),
            *form_page("/rules/draft/event", self._choose_event),
            *form_page("/rules/draft/form", self._edit_by_form),
            *form_page("/rules/draft/changes", self._compare),
            *form_page("/rules/draft/save", self._save),
            *page("/rules/{name:path}", self._show),
        ]

    @property
    def _files(self) -> ConfigFiles:
        return ConfigFiles(self.backend.configuration.folder)

    async def _list(self, request: Request) -> ConsolePage:  # noqa: ARG002
        configuration = self.backend.configuration
        checked = await asyncio.to_thread(check_drafts, configuration.folder, {})
        rows = []
        for name in self._files.names():
            kind, _, file = name.partition("/")
            integration = configuration.integrations.get(file.removesuffix(".yaml"))
            path = self._files.path(name)
            rows.append(
                {
                    "file": name,
                    "kind": kind,
                    "vendor": integration.forwarder.contract.title if integration and kind == "integrations" else None,
                    "rules": len(integration.rules.names) if integration and kind == "integrations" else None,
                    "errors": len(checked.errors_in(path)),
                    "warnings": sum(it.path == str(path) for it in checked.warnings),
                }
            )
        return ConsolePage("Rules", "rules.html", {"files": rows, "folder": str(configuration.folder)})

    async def _show(self, request: Request) -> ConsolePage:
        name = str(request.path_params["name"]).removesuffix(".json")
        opened = self._open(name)
        data = await asyncio.to_thread(self._editor, opened, request.query_params)
        return ConsolePage(name.rpartition("/")[2], "rule_editor.html", data)

    def _editor(self, opened: OpenedFile, asked: Mapping[str, str]) -> dict[str, Any]:
        configuration = self.backend.configuration
        group = _group(asked)
        event = self._first_event(configuration, asked.get("at", ""))
        draft, note = None, None
        if rule := asked.get("take", ""):
            try:
                draft = take_from_preset(opened.text, rule, self._preset(opened.name, opened.text))
            except ValueError as error:
                note = str(error)
        trial = try_draft(configuration.folder, opened.name, opened.text, _try_event(event["text"], event["source"]))
        saver = Saver(configuration.folder)
        allowed = [SaveMode.PROPOSAL] if configuration.settings.console.save is SaveMode.PROPOSAL else list(SaveMode)
        return {
            "file": {**_file(opened.name), "digest": opened.digest},
            "text": opened.text,
            "draft": draft,
            "note": note,
            "line": asked.get("line", "") if asked.get("line", "").isdecimal() else "",
            "group": group,
            "event": event,
            "trial": trial.data(),
            "words": self._words(opened.name),
            "saves": [saver.plan(mode, opened.name).data() for mode in allowed],
            "max_events": MAX_EVENTS,
            "quick_events": QUICK_EVENTS,
            **self._form_data(opened.name, opened.text if draft is None else draft),
        }

    def _form_data(self, name: str, text: str) -> dict[str, Any]:
        kind, _, file = name.partition("/")
        if kind not in ("integrations", "sources") or file.endswith(".test.yaml"):
            return {"form": None}
        return {
            "form": show_form(kind, text, self._preset(name, text)),
            "sources": sorted(self.backend.configuration.source_files),
            "conversions": {key: it.label for key, it in CONVERSIONS.items()},
            "comparisons": dict(COMPARISONS),
            "unary": list(UNARY),
            "payload_fields": self._payload_fields(name),
        }

    def _preset(self, name: str, text: str) -> Document | None:
        """Return the preset that an integration's draft names."""
        try:
            data = Document.parse(text, name).data
            found = registry.find(str(data["forwarder"])).preset() if data.get("preset") else None
            return Document.parse(found.read_bytes(), str(found)) if found else None
        except (RuleError, registry.UnknownForwarderError, AttributeError, KeyError, TypeError):
            return None

    def _payload_fields(self, name: str) -> list[str]:
        integration = self.backend.configuration.integrations.get(name.partition("/")[2].removesuffix(".yaml"))
        model = integration.forwarder.contract.payload if integration and name.startswith("integrations/") else None
        return list(model.model_fields) if model else []

    def _words(self, name: str) -> list[dict[str, str]]:
        """Return the editor's completions, in addition to the event's paths."""
        directives = [{"label": it, "type": "function", "detail": DIRECTIVES[it].summary[:80]} for it in DIRECTIVES]
        return [*directives, *({"label": it, "type": "property"} for it in self._payload_fields(name))]

    def _first_event(self, configuration: Configuration, place: str) -> dict[str, Any]:
        """Return the page's initial event, by place or the newest, and others to choose from."""
        try:
            newest = read_newest(configuration, MAX_CHOICES)
        except BrokerError as error:
            return _event_data("", None, None, problem=str(error))
        choices = [{"at": it.place, "label": _label(it)} for it in newest]
        problem = None
        if place:
            found = self._event_at(configuration, place)
            if found is not None:
                return _event_data(found.value.decode(errors="replace"), found.source, found.place, choices)
            problem = f"Kafka has no event at {place}."
        if not newest:
            return _event_data("", None, None, choices, problem or "No event has arrived yet.")
        first = newest[0]
        return _event_data(first.value.decode(errors="replace"), first.source, first.place, choices, problem)

    def _event_at(self, configuration: Configuration, text: str) -> RecordedEvent | None:
        place = find_place(configuration, text)
        if place is None or place.topic not in (configuration.topics.events, *configuration.sources.topics):
            return None
        with self.backend.kafka() as kafka:
            record = kafka.record(place)
        if record is None or record.value is None:
            return None
        return RecordedEvent(text, record.value, named_source(record, configuration.sources), record.timestamp)

    async def _choose_event(self, request: Request, form: Mapping[str, str]) -> ConsolePage:  # noqa: ARG002
        """Show another event beside the rule: one from Kafka, or a pasted one."""
        pasted, configuration = form.get("pasted", "").strip(), self.backend.configuration
        if pasted:
            event = _event_data(pasted, None, None)
        else:
            found = await asyncio.to_thread(self._event_at, configuration, form.get("at", "").strip())
            problem = None if found else "Kafka has no such event. Name it as topic:partition:offset, or paste it."
            text = found.value.decode(errors="replace") if found else ""
            event = _event_data(text, found.source if found else None, found.place if found else None, problem=problem)
        name, draft = self._draft(form)
        trial = await asyncio.to_thread(
            try_draft, configuration.folder, name, draft, _try_event(event["text"], event["source"])
        )
        data = {"event": event, "trial": trial.data(), "file": _file(name), "swap_event": True}
        return ConsolePage("Event", "rule_try.html", data)

    async def _try(self, request: Request, form: Mapping[str, str]) -> ConsolePage:  # noqa: ARG002
        """Return the results of `check`, `explain` and `test` for a draft."""
        name, text = self._draft(form)
        event = _try_event(form.get("tried", ""), form.get("tried_source", ""))
        folder = self.backend.configuration.folder
        trial = await asyncio.to_thread(try_draft, folder, name, text, event)
        form_data = await asyncio.to_thread(self._form_data, name, text)
        data = {"trial": trial.data(), "file": _file(name), "swap_event": False, **form_data}
        return ConsolePage("Try", "rule_try.html", data)

    async def _edit_by_form(self, request: Request, form: Mapping[str, str]) -> ConsolePage:  # noqa: ARG002
        """Apply a form's fields to the draft."""
        name, text = self._draft(form)
        kind, problem = name.partition("/")[0], None
        try:
            text = await asyncio.to_thread(apply_form, kind, text, form, self._preset(name, text))
        except FormError as error:
            problem = str(error)
        data = {"text": text, "form_problem": problem, "file": _file(name), **self._form_data(name, text)}
        return ConsolePage("Form", "rule_form.html", data)

    async def _compare(self, request: Request, form: Mapping[str, str]) -> ConsolePage:
        """Return the changes for the newest events, and for those of a group of dead letters."""
        name, text = self._draft(form)
        session, token = session_of(request).csrf, object()
        self._comparisons[session] = token
        group, number = _group(form), QUICK_EVENTS if "quick" in form else MAX_EVENTS
        try:
            result = await asyncio.to_thread(
                self._compared, name, text, group, number, lambda: self._comparisons.get(session) is not token
            )
        except CancelledError:
            result = {"problem": "A newer comparison is running."}
        except BrokerError as error:
            result = {"problem": str(error)}
        finally:
            if self._comparisons.get(session) is token:
                del self._comparisons[session]
        return ConsolePage("What would change", "rule_changes.html", {"result": result, "file": _file(name)})

    def _compared(
        self, name: str, text: str, group: str, number: int, is_cancelled: Callable[[], bool]
    ) -> dict[str, Any]:
        old, path = self.backend.configuration, self._files.path(name, new=True)
        new = check_drafts(old.folder, {path: text}, only_of(path)).configuration
        if new is None:
            return {"problem": "The draft has errors; fix them first."}
        only = sorted({*integrations_of(old, name), *integrations_of(new, name)})
        started = time.monotonic()
        result: dict[str, Any] = {"problem": None, "group": None, "integrations": only}
        if group and len(only) == 1:
            events = read_group_events(old, only[0], group)
            result["group"] = compare_events(old, new, events, only, is_cancelled)
        recent = self._recent.read(old)[:number]
        result["recent"] = compare_events(old, new, recent, only, is_cancelled)
        return {**result, "seconds": round(time.monotonic() - started, 1)}

    async def _save(self, request: Request, form: Mapping[str, str]) -> ConsolePage:
        """Save a draft, and report the commit or the reason for a refusal."""
        name, text = self._draft(form)
        mode = form.get("mode", "")
        if mode not in list(SaveMode):
            raise HTTPException(400, "The mode is live or proposal.")
        change = Change(name, text, form.get("opened", ""))
        message = " ".join(form.get("message", "").split())[:MAX_MESSAGE] or f"Change {name}"
        data: dict[str, Any] = {"saved": None, "refused": None, "errors": [], "patch": None, "diff": None}
        try:
            saved = await save_changes(self.backend, request, [change], message, SaveMode(mode))
        except SaveError as error:
            data |= {"refused": str(error), **_refusal(error, text)}
        else:
            data["saved"] = await self._described(saved, name, text)
        status = 409 if data["refused"] and wants_json(request) else 200
        data |= {"file": _file(name), "group": _group(form)}
        return ConsolePage("Saved" if data["saved"] else "Not saved", "rule_saved.html", data, status)

    async def _described(self, saved: Saved, name: str, text: str) -> dict[str, Any]:
        """Return a save as JSON data; a live save is returned once the console uses the new rules."""
        configuration, in_use = self.backend.configuration, False
        if saved.mode is SaveMode.LIVE:
            checked = await asyncio.to_thread(check_drafts, configuration.folder, {})
            version = checked.configuration and checked.configuration.version
            deadline = time.monotonic() + RELOAD_SECONDS
            while not (in_use := self.backend.configuration.version == version) and time.monotonic() < deadline:
                await asyncio.sleep(0.1)
        digest = self._open(name).digest if saved.mode is SaveMode.LIVE else None
        return {
            "mode": str(saved.mode),
            "commit": saved.commit,
            "branch": saved.branch,
            "note": saved.note,
            "diff": saved.diff,
            "digest": digest,
            "in_use": in_use,
            "rules": self.backend.configuration.version,
            "text": text,
        }

    def _open(self, name: str) -> OpenedFile:
        """Return a file; raises HTTPException."""
        try:
            return self._files.open(name)
        except UnknownFileError as error:
            raise HTTPException(404, str(error)) from None
        except OSError as error:
            raise HTTPException(503, f"{name} cannot be read: {error.strerror}.") from None

    def _draft(self, form: Mapping[str, str]) -> tuple[str, str]:
        """Return the file and the text of a form; raises HTTPException."""
        name = form.get("file", "")
        self._open(name)
        return name, form.get("text", "").replace("\r\n", "\n")


def _group(given: Mapping[str, str]) -> str:
    """Return the ID of a group of dead letters in a query or form, or an empty text."""
    group = given.get("group", "")
    return group if _GROUP.fullmatch(group) else ""


def _file(name: str) -> dict[str, str]:
    kind, _, short = name.partition("/")
    return {"name": name, "kind": kind, "short": short}


def _try_event(text: str, source: str | None) -> TryEvent | None:
    return TryEvent(text.encode("utf-8", "surrogatepass"), source or None) if text.strip() else None


def _event_data(
    text: str,
    source: str | None,
    place: str | None,
    choices: Sequence[Mapping[str, str]] = (),
    problem: str | None = None,
) -> dict[str, Any]:
    try:
        data = json.loads(text) if text.strip() else None
    except ValueError:
        data, problem = None, problem or "The event is not JSON."
    if data is not None and not isinstance(data, dict):
        data, problem = None, "The event is not a JSON object."
    return {"text": text, "source": source, "at": place, "choices": list(choices), "data": data, "problem": problem}


def _label(event: RecordedEvent) -> str:
    found = _EVENT_NAME.search(event.value) or _TYPE.search(event.value)
    name = found[1].decode(errors="replace") if found else "event"
    _, partition, offset = event.place.rsplit(":", 2)
    return f"{name} · {partition}:{offset}"


def _refusal(error: SaveError, text: str) -> dict[str, Any]:
    """Return hints for a refused save."""
    if isinstance(error, StaleError):
        lines = difflib.unified_diff(
            error.now.text.splitlines(), text.splitlines(), "now", "your draft", lineterm="", n=3
        )
        return {"diff": "\n".join(lines)}
    if isinstance(error, BrokenError):
        return {"errors": [{"where": f"{it.path}:{it.line}", "message": it.message} for it in error.errors[:20]]}
    return {"patch": error.patch} if isinstance(error, ReadOnlyError) else {}
