"""Privacy: the data that was sent about one user, and the suppression of users."""

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.routing import Route

from deploy.console.access.roles import Role
from deploy.console.backend import Backend
from deploy.console.pages import ConsolePage, ConsoleScreen, Done, action, page, session_of
from deploy.ledger.client import LedgerAwayError, LedgerRefusedError
from deploy.privacy.suppressions import Suppressions
from deploy.privacy.user_account import sum_up
from streams.plurals import counted
from streams.suppression.admin import change

MAX_LISTED = 50
MAX_USERS = 20
MAX_ID, MAX_REASON = 1_000, 300
"""Characters of an ID, and of a reason."""


class PrivacyScreen(ConsoleScreen):
    """The page with a user's account, and `turnout suppress` as actions."""

    title: ClassVar[str] = "Privacy"
    path: ClassVar[str] = "/privacy"
    key: ClassVar[str] = "p"

    def __init__(self, backend: Backend) -> None:
        super().__init__(backend)
        self._suppressions = Suppressions()

    def routes(self) -> Sequence[Route]:
        """Return the routes."""
        return [
            *page("/privacy", self._show),
            *action("/privacy/suppress", self._suppress, needs=Role.EDITOR),
            *action("/privacy/lift", self._lift, needs=Role.EDITOR),
        ]

    def close(self) -> None:
        """Close the connection to Kafka."""
        self._suppressions.close()

    async def _show(self, request: Request) -> ConsolePage:
        user = request.query_params.get("user", "").strip()
        configuration = self.backend.configuration
        if not user:
            number, newest = await asyncio.to_thread(self._suppressions.newest, configuration, MAX_LISTED)
            data = {
                "number": number,
                "suppressed": [{"digest": digest, "since": since} for digest, since in newest],
                "file": str(configuration.settings.suppression.file or ""),
            }
            return ConsolePage("Privacy", "privacy_home.html", data)
        found = await asyncio.to_thread(self._suppressions.find, configuration, user)
        account, problem = None, None
        try:
            account = await asyncio.to_thread(self._sum_up, user)
        except LedgerAwayError as error:
            problem = error.message
        except LedgerRefusedError as error:
            if error.code != "no_user_index":
                raise
            problem = "The ledger has no index of users. Set ledger.user_key"
        data = {
            "user": user,
            "since": found.since,
            "in_file": found.in_file,
            "account": account,
            "problem": problem,
            "days": configuration.settings.retention_days,
        }
        return ConsolePage("Privacy of a user", "privacy.html", data)

    def _sum_up(self, user: str) -> Mapping[str, Any]:
        with self.backend.kafka() as kafka:
            return sum_up(self.backend.configuration, kafka, user, self.backend.past_rules)

    async def _suppress(self, request: Request, form: Mapping[str, str]) -> Done:
        return await self._change(request, form, lift=False)

    async def _lift(self, request: Request, form: Mapping[str, str]) -> Done:
        return await self._change(request, form, lift=True)

    async def _change(self, request: Request, form: Mapping[str, str], *, lift: bool) -> Done:
        """Add or lift a suppression like `turnout suppress`; the audit log has digests of the IDs."""
        users = [form.get("user", "").strip(), *(value for name, value in form.items() if name.startswith("also-"))]
        users = list(dict.fromkeys(filter(None, users)))
        if not users or len(users) > MAX_USERS or max(map(len, users)) > MAX_ID:
            raise HTTPException(400, f"Name 1 to {MAX_USERS} IDs of up to {MAX_ID:,} characters.")
        configuration = self.backend.configuration
        count = await asyncio.to_thread(
            change,
            configuration.settings.broker,
            configuration.topics,
            configuration.suppression.users,
            users,
            lift=lift,
            memory=configuration.memory_cipher,
        )
        log = self.backend.audit_log
        done, reason = "lift suppression" if lift else "suppress", form.get("reason", "")[:MAX_REASON]
        log.record(session_of(request), done, ids=[log.digest(user) for user in users], reason=reason)
        state = "no longer suppressed" if lift else "suppressed"
        message = f"{counted(count, 'ID is', 'IDs are')} {state}, from the next event on."
        return Done(message, {"lifted" if lift else "suppressed": count}, {"changed": {}})
