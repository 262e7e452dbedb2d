"""Integrations: their states, and actions that change them."""

import asyncio
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.routing import Route

from deploy.config.history import FolderChange, read_history
from deploy.config.integrations import Integration
from deploy.config.yaml_edit import EditError, remove_value, replace_value
from deploy.console.access.roles import Role
from deploy.console.file_saving import describe_saved, plan_saving, save_files
from deploy.console.pages import ConsolePage, ConsoleScreen, Done, action, form_page, page, session_of
from deploy.console.screens.new_integration import NewIntegration
from deploy.dryrun.taken_event import MAX_TRIED, find_taken_event
from deploy.dryrun.verification import UnverifiableError, Verdict, try_out, verify
from deploy.editing.config_files import ConfigFiles
from deploy.editing.new_integration import FILE_ORDER
from deploy.editing.saving import Change
from deploy.ledger.client import LedgerAwayError, LedgerRefusedError
from deploy.simulator.in_process import SimulatorClient
from streams.kafka.settings import BrokerError
from streams.operations.orders import give_order
from streams.operations.overview import PipelineOverview
from streams.records.control import ControlAction
from streams.records.outcomes import Outcome
from streams.records.status import DeliveryState

HOUR_SECONDS = 3600
MAX_CHANGES = 200
"""Commits in which the last change of each file is looked for."""

STATES: Mapping[str, str] = {
    "failing": "the vendor fails, or refuses the credentials",
    "paused": "by hand; events wait in Kafka",
    "unknown": "no forwarder reports it",
    "draining": "takes no new events; delivers what waits",
    "shadow": "events are mapped and checked, and not sent",
    "on": "events are sent",
    "off": "takes no new events, and nothing waits",
}
"""States, those that need attention first."""

SWITCHES: Mapping[str, tuple[str, str | None, str]] = {
    "turn-on": ("mode", None, "Turn on {}"),
    "shadow": ("mode", "shadow", "Put {} in shadow"),
    "drain": ("state", "draining", "Drain {}"),
    "take-new": ("state", None, "Let {} take new events"),
}
"""Changes of an integration's file: the key, its value or None to remove it, and what the commit says."""


class IntegrationsScreen(ConsoleScreen):
    """The list of integrations, and a page for each."""

    title: ClassVar[str] = "Integrations"
    path: ClassVar[str] = "/integrations"
    key: ClassVar[str] = "n"
    starts_group: ClassVar[bool] = True

    def routes(self) -> Sequence[Route]:
        """Return the routes."""
        return [
            *page("/integrations", self._list),
            *NewIntegration(self.backend).routes(),
            *page("/integrations/{name}", self._show),
            *form_page("/integrations/{name}/test", self._test, needs=Role.OPERATOR),
            *action("/integrations/{name}/pause", self._pause, needs=Role.OPERATOR),
            *action("/integrations/{name}/resume", self._resume, needs=Role.OPERATOR),
            *action("/integrations/{name}/probe", self._probe, needs=Role.OPERATOR),
            *(
                route
                for name in SWITCHES
                for route in action(f"/integrations/{{name}}/{name}", self._switch, needs=Role.EDITOR)
            ),
        ]

    async def _list(self, request: Request) -> ConsolePage:  # noqa: ARG002
        return ConsolePage("Integrations", "integrations.html", await self._rows())

    async def _rows(self, only: str | None = None) -> dict[str, Any]:
        configuration = self.backend.configuration
        names = [only] if only else list(configuration.integrations)
        (overviews, problem), counts, changes = await asyncio.gather(
            asyncio.to_thread(self._look, names),
            self._counts(),
            asyncio.to_thread(read_history, configuration.folder, MAX_CHANGES),
        )
        rows = [_describe(configuration.integrations[name], overviews.get(name), counts, changes) for name in names]
        order = list(STATES)
        return {
            "integrations": sorted(rows, key=lambda row: (order.index(row["state"]), row["integration"])),
            "problem": problem,
            "counted": counts is not None,
            "rules": configuration.version,
            "days": configuration.settings.retention_days,
        }

    def _look(self, names: Sequence[str]) -> tuple[Mapping[str, PipelineOverview], str | None]:
        """Return the forwarders' reports by integration, or the reason why they are missing."""
        try:
            overview, _ = self.backend.look(list(self.backend.configuration.integrations))
        except BrokerError as error:
            return {}, str(error)
        return {row.name: row for row in overview.integrations if row.name in names}, None

    async def _counts(self) -> Counter[tuple[str, str]] | None:
        """Return the outcomes of the last hour by integration; None if the ledger does not answer."""
        try:
            answer = await self.backend.ask("/counts", since=int(time.time()) - HOUR_SECONDS, by="integration,outcome")
        except (LedgerAwayError, LedgerRefusedError):
            return None
        return Counter({(row["integration"], row["outcome"]): row["count"] for row in answer["rows"]})

    async def _show(self, request: Request) -> ConsolePage:
        integration = self._integration(request)
        rows = await self._rows(integration.name)
        (row,) = rows.pop("integrations")
        contract = integration.forwarder.contract
        data = {
            **rows,
            **row,
            "documentation": contract.documentation,
            "preset": integration.document.data.get("preset"),
            "settings": _settings(integration),
            "tests_with": _tests_with(integration),
            "saving": await plan_saving(self.backend, row["file"]),
        }
        return ConsolePage(integration.name, "integration.html", data)

    async def _pause(self, request: Request, form: Mapping[str, str]) -> Done:  # noqa: ARG002
        return await self._order(request, ControlAction.PAUSED)

    async def _resume(self, request: Request, form: Mapping[str, str]) -> Done:  # noqa: ARG002
        return await self._order(request, ControlAction.RESUMED)

    async def _probe(self, request: Request, form: Mapping[str, str]) -> Done:  # noqa: ARG002
        return await self._order(request, ControlAction.PROBE)

    async def _order(self, request: Request, act: ControlAction) -> Done:
        """Send forwarders the command of `turnout pause`, `resume` or `probe`."""
        configuration, session = self.backend.configuration, session_of(request)
        name = self._integration(request).name
        broker, topics = configuration.settings.broker, configuration.topics
        given = await asyncio.to_thread(give_order, broker, topics, name, act, session.user)
        log = self.backend.audit_log
        log.record(session, str(act), integration=name, changed=given.changed, obeyed=given.obeyed)
        facts = {"integration": name, "action": str(act), "changed": given.changed}
        return Done(f"{given.sentence()}.", {**facts, "obeyed": given.obeyed}, {"ordered": {}})

    async def _test(self, request: Request, form: Mapping[str, str]) -> ConsolePage:
        """Send the newest event that matches the rules to the vendor's validation, or to the simulator."""
        configuration, integration = self.backend.configuration, self._integration(request)
        simulated, name = form.get("to") != "vendor", integration.name
        taken = await asyncio.to_thread(find_taken_event, configuration, name)
        verdicts: list[Verdict] = []
        problem = None if taken else f"Its rules take none of the newest {MAX_TRIED} events."
        if taken:
            event = taken.event
            source = event.source if event.source in configuration.source_files else None
            try:
                if simulated:
                    verdicts = await try_out(configuration, name, event.value, SimulatorClient(), source)
                else:
                    verdicts = await verify(configuration, name, event.value, form.get("code") or None, source)
            except UnverifiableError as error:
                problem = f"{error}."
            log = self.backend.audit_log
            place = log.digest(event.place)
            log.record(session_of(request), "test send", integration=name, simulated=simulated, event=place)
        data = {
            "integration": name,
            "vendor": integration.forwarder.contract.title,
            "simulated": simulated,
            "problem": problem,
            "event": taken and taken.data(),
            "verdicts": [verdict.data() for verdict in verdicts],
        }
        return ConsolePage(f"Test of {name}", "integration_test.html", data)

    async def _switch(self, request: Request, form: Mapping[str, str]) -> Done:  # noqa: ARG002
        """Change the state or the mode in an integration's file."""
        name = self._integration(request).name
        key, value, says = SWITCHES[request.url.path.rpartition("/")[2]]
        opened = ConfigFiles(self.backend.configuration.folder).open(f"integrations/{name}.yaml")
        try:
            text = (
                remove_value(opened.text, (key,))
                if value is None
                else replace_value(opened.text, (key,), value, FILE_ORDER)
            )
        except EditError as error:
            raise HTTPException(409, f"{opened.name} cannot be changed here: {error}.") from None
        saved = await save_files(self.backend, request, [Change(opened.name, text, opened.digest)], says.format(name))
        return Done(describe_saved(saved), {"commit": saved.commit, "branch": saved.branch}, {"ordered": {}})

    def _integration(self, request: Request) -> Integration:
        name = str(request.path_params["name"]).removesuffix(".json")
        integration = self.backend.configuration.integrations.get(name)
        if integration is None:
            raise HTTPException(404, f"The configuration has no integration {name!r}.")
        return integration


def _describe(
    integration: Integration,
    overview: PipelineOverview | None,
    counts: Counter[tuple[str, str]] | None,
    changes: Sequence[FolderChange] | None,
) -> dict[str, Any]:
    """Return a row of the list; `integration` and `vendor` are not personal data."""
    name, contract = integration.name, integration.forwarder.contract
    state, why, since = _state(integration, overview)
    file = f"integrations/{name}.yaml"
    last = next((change for change in changes or () if file in change.files), None)
    found = counts if counts is not None else Counter[tuple[str, str]]()
    consent = integration.consent
    return {
        "integration": name,
        "vendor": contract.title,
        "forwarder": contract.name,
        "file": file,
        "state": state,
        "why": why,
        "since": since,
        "mode": integration.mode,
        "takes_new": integration.state == "active",
        "paused": bool(overview and overview.paused),
        "sources": sorted(integration.sources) if integration.sources else None,
        "consent": [it.name for it in consent.categories] if consent else None,
        "consent_match": consent.match if consent else None,
        "delivered": found[name, Outcome.DELIVERED],
        "dead": found[name, Outcome.DEAD],
        "lag": overview.lag if overview else None,
        "drain_seconds": overview.data(time.time())["drain_seconds"] if overview else None,
        "changed": {"at": last.at, "by": last.who} if last else None,
    }


def _state(integration: Integration, overview: PipelineOverview | None) -> tuple[str, str, str | None]:
    """Return an integration's state as one word, its explanation, and when it began."""
    if overview is None:
        return "unknown", "", None
    if overview.paused:
        return "paused", f"by {overview.paused.who}", overview.paused.when
    failing = next((share.pipeline.failing for share in overview.shares if share.pipeline.failing), None)
    vendor = overview.vendor
    if vendor and vendor.state in (DeliveryState.FAILING, DeliveryState.REFUSED):
        return "failing", vendor.reason or str(vendor.state), vendor.since
    if failing:
        return "failing", failing, None
    if integration.state == "draining":
        return ("off", "", None) if overview.lag == 0 else ("draining", "", None)
    if not overview.shares:
        return "unknown", STATES["unknown"], None
    return ("shadow", STATES["shadow"], None) if integration.mode == "shadow" else ("on", "", None)


def _tests_with(integration: Integration) -> str:
    """Return how the vendor validates requests: `endpoint`, `code`, or an empty text if it cannot."""
    contract = integration.forwarder.contract
    if contract.validation_setting is None:
        return ""
    return "endpoint" if contract.settings.model_fields[contract.validation_setting].annotation is bool else "code"


def _settings(integration: Integration) -> list[dict[str, Any]]:
    """Return the settings as written in the file, where secrets are references."""
    written = integration.document.data.get("settings") or {}
    fields = integration.forwarder.contract.settings.model_fields
    return [
        {"setting": name, "is": value, "says": (fields[name].description or "") if name in fields else ""}
        for name, value in written.items()
    ]
