"""Health: processes' reports, integrations that need attention, and the audit log."""

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from typing import Any, ClassVar

from starlette.requests import Request
from starlette.routing import Route

from deploy.config.history import has_changes, read_history
from deploy.console.pages import ConsolePage, ConsoleScreen, page
from streams.records.status import DeliveryState

MAX_ACTIONS = 20

STATES = (DeliveryState.REFUSED, DeliveryState.FAILING, DeliveryState.PAUSED)
"""States of integrations that come first, in this order."""


class HealthScreen(ConsoleScreen):
    """The page of `turnout status`."""

    title: ClassVar[str] = "Health"
    path: ClassVar[str] = "/health"
    key: ClassVar[str] = "h"
    starts_group: ClassVar[bool] = True

    def routes(self) -> Sequence[Route]:
        """Return the routes."""
        return page("/health", self._show)

    async def _show(self, request: Request) -> ConsolePage:  # noqa: ARG002
        configuration = self.backend.configuration
        (overview, dead), changes, is_changed = await asyncio.gather(
            asyncio.to_thread(self.backend.look, list(configuration.integrations)),
            asyncio.to_thread(read_history, configuration.folder),
            asyncio.to_thread(has_changes, configuration.folder),
        )
        status = overview.data(dead)
        data = {
            **status,
            "processes": sorted(status["processes"], key=_order_of_processes),
            "integrations": sorted(map(_describe, status["integrations"]), key=_order_of_integrations),
            "kinds": _kinds(status["processes"]),
            "rules": configuration.version,
            "folder": str(configuration.folder),
            "changes": None if changes is None else [asdict(change) for change in changes],
            "uncommitted": is_changed,
            "actions": [_action(entry) for entry in list(self.backend.audit_log.recent)[:MAX_ACTIONS]],
        }
        return ConsolePage("Health", "health.html", data)


def _describe(integration: Mapping[str, Any]) -> Mapping[str, Any]:
    """Add the state of an integration as one word, with its explanation."""
    paused, vendor = integration["paused"], integration["vendor"]
    if paused:
        return {
            **integration,
            "state": str(DeliveryState.PAUSED),
            "why": f"by {paused['who']}",
            "since": paused["when"],
        }
    if vendor is None:
        return {**integration, "state": "unknown", "why": "no forwarder reports it", "since": None}
    return {**integration, "state": str(vendor["state"]), "why": vendor["reason"], "since": vendor["since"]}


def _order_of_integrations(integration: Mapping[str, Any]) -> tuple[int, str]:
    state = integration["state"]
    return (STATES.index(state) if state in STATES else len(STATES)) - (state == "unknown"), integration["name"]


def _order_of_processes(process: Mapping[str, Any]) -> tuple[bool, str, str]:
    return not process["silent"], process["kind"], process["id"]


def _kinds(processes: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return the processes that run each version of the rules."""
    versions: dict[str, list[str]] = {}
    for process in processes:
        if not process["silent"]:
            versions.setdefault(process["rules"], []).append(process["kind"])
    return [{"rules": rules, "processes": sorted(kinds)} for rules, kinds in sorted(versions.items())]


def _action(entry: Mapping[str, Any]) -> dict[str, Any]:
    """Return an action of the audit log; `by` is a user of the console, not the subject of an event."""
    rest = {key: value for key, value in entry.items() if key not in ("user", "role", "at", "action")}
    return {"at": entry["at"], "by": entry["user"], "role": entry["role"], "action": entry["action"], "details": rest}
