"""Roles of users."""

from collections.abc import Collection
from enum import StrEnum

from deploy.config.models.console import ANYONE, OidcSettings


class Role(StrEnum):
    """A role; each includes the permissions of the ones before it."""

    VIEWER = "viewer"
    """Looks, with personal data masked."""
    OPERATOR = "operator"
    """Sees personal data; replays, pauses and resumes."""
    EDITOR = "editor"
    """Changes the configuration."""

    def may(self, needed: "Role") -> bool:
        """Return whether this role includes another."""
        order = list(Role)
        return order.index(self) >= order.index(needed)


def role_of(groups: Collection[str], settings: OidcSettings) -> Role | None:
    """Return the highest role of a user's groups; None if they have none."""
    for role, allowed in (
        (Role.EDITOR, settings.editors),
        (Role.OPERATOR, settings.operators),
        (Role.VIEWER, settings.viewers),
    ):
        if ANYONE in allowed or not set(allowed).isdisjoint(groups):
            return role
    return None
