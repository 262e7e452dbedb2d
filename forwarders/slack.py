"""Slack by its incoming webhooks."""

from collections.abc import Sequence
from typing import Annotated, Any, Self

from pydantic import Field, model_validator
from typing_extensions import override

from forwarders.contract import (
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
from forwarders.fields import without_nulls
from forwarders.urls import SecretUrl

GONE = frozenset({b"invalid_token", b"no_active_hooks", b"no_service", b"no_service_id", b"no_team", b"team_disabled"})
CHANNEL = frozenset(
    {b"action_prohibited", b"channel_is_archived", b"channel_not_found", b"posting_to_general_channel_denied"}
)


class Message(Payload):
    """A message; `text` is what a notification shows where there are blocks, too."""

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
    """The webhook that Slack made for a channel."""

    url: SecretUrl
    """The incoming webhook's URL, which is a secret: who has it can post."""


class Slack(HttpForwarder[SlackSettings]):
    """One message an event, about one a second. A repeat is posted twice.

    In a text, `&`, `<` and `>` are Slack's: an event's value must have them written as `&amp;`, `&lt;` and `&gt;`.
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
        """The body is a word; a webhook or channel that is gone costs no message: it waits for a new URL."""
        word = response.body.strip()
        if response.status >= 400 and word in GONE | CHANNEL:
            return [AuthFailed()] * len(items)
        if response.status == 400:
            return [
                PermanentFailure(word.decode() if word.isalnum() or word.replace(b"_", b"").isalpha() else "status_400")
            ] * len(items)
        return super().parse_response(response, items)
