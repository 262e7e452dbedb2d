"""Save configuration files for a user: live or as a proposal, as set by `console.save`."""

import asyncio
from collections.abc import Sequence

from starlette.exceptions import HTTPException
from starlette.requests import Request

from deploy.config.models.console import SaveMode
from deploy.console.backend import Backend
from deploy.console.pages import session_of
from deploy.editing.repository import Author
from deploy.editing.saving import BrokenError, Change, Saved, SaveError, Saver


async def plan_saving(backend: Backend, name: str) -> dict[str, str | None]:
    """Return the effect of saving a file as JSON data, for the text beside the button."""
    configuration = backend.configuration
    plan = await asyncio.to_thread(Saver(configuration.folder).plan, configuration.settings.console.save, name)
    return plan.data()


async def save_changes(
    backend: Backend, request: Request, changes: Sequence[Change], message: str, mode: SaveMode
) -> Saved:
    """Save changes in a mode, and record it or its refusal in the audit log.

    Raises SaveError, or HTTPException if `console.save` does not allow the mode.
    """
    configuration, session = backend.configuration, session_of(request)
    if mode is SaveMode.LIVE and configuration.settings.console.save is SaveMode.PROPOSAL:
        raise HTTPException(403, "Files are saved as proposals here: `console.save` in turnout.yaml.")
    saver = Saver(configuration.folder)
    save = saver.save_live if mode is SaveMode.LIVE else saver.propose
    files = [change.name for change in changes]
    try:
        saved = await asyncio.to_thread(save, changes, Author(session.user), message)
    except SaveError as error:
        backend.audit_log.record(session, "save refused", files=files, mode=str(mode), why=str(error))
        raise
    backend.audit_log.record(
        session, "save", files=files, mode=str(saved.mode), commit=saved.commit, branch=saved.branch, message=message
    )
    return saved


async def save_files(backend: Backend, request: Request, changes: Sequence[Change], message: str) -> Saved:
    """Save changes in the mode set by `console.save`; raises HTTPException with the reason if not possible."""
    try:
        return await save_changes(backend, request, changes, message, backend.configuration.settings.console.save)
    except BrokenError as error:
        raise HTTPException(409, f"{error} {' '.join(map(str, error.errors[:3]))}") from None
    except SaveError as error:
        raise HTTPException(409, str(error)) from None


def describe_saved(saved: Saved) -> str:
    """Describe where the changes were saved."""
    if saved.mode is SaveMode.PROPOSAL:
        return f"Proposed as {saved.commit} on the new branch {saved.branch}. Nothing changes until it is merged."
    if saved.commit:
        return f"Saved as {saved.commit} on {saved.branch}. Running processes take it up."
    return f"Saved. Running processes take it up. {saved.note or ''}".strip()
