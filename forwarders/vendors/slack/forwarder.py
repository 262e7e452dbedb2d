"""Slack incoming webhooks."""

from collections.abc import Sequence
from typing import Annotated, Any, Self

from pydantic import Field, model_validator
from typing_extensions import override

from forwarders.api.contract import (
    AuthFailed,
    Category,
    Contract,
    Delivery,
    HttpForwarder,
    Limits,
    Payload,
    PermanentFailure,
    Rate,
    Request,
    Response,
    Result,
    Settings,
)
from forwarders.api.fields import without_nulls
from forwarders.api.urls import SecretUrl

GONE = frozenset({b"invalid_token", b"no_active_hooks", b"no_service", b"no_service_id", b"no_team", b"team_disabled"})
CHANNEL = frozenset(
    {b"action_prohibited", b"channel_is_archived", b"channel_not_found", b"posting_to_general_channel_denied"}
)


class Message(Payload):
    """A message. If it has blocks, notifications show `text`."""

    text: Annotated[str, Field(min_length=1, max_length=40_000)] | None = None
    blocks: Annotated[list[dict[str, Any]], Field(min_length=1, max_length=50)] | None = None
    attachments: Annotated[list[dict[str, Any]], Field(min_length=1, max_length=100)] | None = None
    thread_ts: str | None = None
    mrkdwn: bool | None = None
    unfurl_links: bool | None = None
    unfurl_media: bool | None = None

    @model_validator(mode="after")
    def _check_content(self) -> Self:
        if not (self.text or self.blocks or self.attachments):
            raise ValueError("a message needs text, blocks or attachments")
        return self


class SlackSettings(Settings):
    """Settings of a channel's webhook."""

    url: SecretUrl
    """The incoming webhook's URL. It is a secret: anyone who has it can post."""


class Slack(HttpForwarder[SlackSettings]):
    """Each event is a message, about one per second. A repeated delivery is posted twice.

    Slack uses `&`, `<` and `>` for its markup: escape them in values as `&amp;`, `&lt;` and `&gt;`.
    """

    contract = Contract(
        name="slack",
        title="Slack",
        documentation="https://docs.slack.dev/messaging/sending-messages-using-incoming-webhooks/",
        category=Category.CRM,
        settings=SlackSettings,
        payload=Message,
        limits=Limits(items=1, bytes=200_000, item_bytes=200_000),
        rates=(Rate(1),),
    )

    @override
    def build_request(self, items: Sequence[Delivery]) -> Request:
        return Request("POST", self.settings.url.get_secret_value(), body=without_nulls(items[0].payload))

    @override
    def parse_response(self, response: Response, items: Sequence[Delivery]) -> Sequence[Result]:
        """Map the error code in the body to a result; messages wait for a new URL if the webhook or channel is gone."""
        word = response.body.strip()
        if response.status >= 400 and word in GONE | CHANNEL:
            return [AuthFailed()] * len(items)
        if response.status == 400:
            return [
                PermanentFailure(word.decode() if word.isalnum() or word.replace(b"_", b"").isalpha() else "status_400")
            ] * len(items)
        return super().parse_response(response, items)
