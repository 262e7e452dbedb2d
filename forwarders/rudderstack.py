"""RudderStack by the HTTP API of its data plane, which is Segment's."""

from collections.abc import Sequence
from datetime import timedelta

from typing_extensions import override

from forwarders.auth import Secret
from forwarders.contract import Answer, Auth, Contract, HttpForwarder, Item, Kind, Limits, Request, Result, Settings
from forwarders.segment import Call, batch
from forwarders.urls import Endpoint


class RudderStackSettings(Settings):
    """The URL of a data plane, and a source's write key."""

    data_plane_url: Endpoint
    """The URL of the data plane."""
    write_key: Secret
    """The write key of the source."""


class RudderStack(HttpForwarder[RudderStackSettings]):
    """Calls as they came. A repeat has the same messageId; the data plane drops it only if it is set up to."""

    contract = Contract(
        name="rudderstack",
        title="RudderStack",
        documentation="https://www.rudderstack.com/docs/api/http-api/",
        kind=Kind.CRM,
        settings=RudderStackSettings,
        payload=Call,
        limits=Limits(items=2500, bytes=3_500_000, item_bytes=3_500_000),  # of 4,000 KB
        dedupe="messageId",
        dedupe_window=timedelta(hours=1),
        dedupe_doubt="its deduplication is off by default",
    )

    @override
    def request(self, items: Sequence[Item]) -> Request:
        return batch(self.settings.data_plane_url, self.settings.write_key, items)

    @override
    def read(self, answer: Answer, items: Sequence[Item]) -> Sequence[Result]:
        """404 says that the source is disabled: its calls wait until somebody enables it."""
        return [Auth()] * len(items) if answer.status == 404 else super().read(answer, items)
