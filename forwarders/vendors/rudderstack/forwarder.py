"""RudderStack data plane HTTP API, which is compatible with Segment's."""

from collections.abc import Sequence
from datetime import timedelta

from typing_extensions import override

from forwarders.api.auth import Secret
from forwarders.api.contract import (
    AuthFailed,
    Category,
    Contract,
    Delivery,
    HttpForwarder,
    Limits,
    Request,
    Response,
    Result,
    Settings,
)
from forwarders.api.urls import Endpoint
from forwarders.vendors.segment.forwarder import SegmentCall, batch


class RudderStackSettings(Settings):
    """Settings of a source."""

    data_plane_url: Endpoint
    """The URL of the data plane."""
    write_key: Secret
    """The write key of the source."""


class RudderStack(HttpForwarder[RudderStackSettings]):
    """Sends calls unchanged.

    A repeated call has the same messageId. The data plane removes duplicates only if it is configured to.
    """

    contract = Contract(
        name="rudderstack",
        title="RudderStack",
        documentation="https://www.rudderstack.com/docs/api/http-api/",
        category=Category.CRM,
        settings=RudderStackSettings,
        payload=SegmentCall,
        limits=Limits(items=2500, bytes=3_500_000, item_bytes=3_500_000),  # 4,000 KB, minus added fields
        dedupe_field="messageId",
        dedupe_window=timedelta(hours=1),
        dedupe_caveat="deduplication is off by default",
    )

    @override
    def build_request(self, items: Sequence[Delivery]) -> Request:
        return batch(self.settings.data_plane_url, self.settings.write_key, items)

    @override
    def parse_response(self, response: Response, items: Sequence[Delivery]) -> Sequence[Result]:
        """Treat 404 as rejected credentials: the source is disabled, and calls wait until it is enabled."""
        return [AuthFailed()] * len(items) if response.status == 404 else super().parse_response(response, items)
