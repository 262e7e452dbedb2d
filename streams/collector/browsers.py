"""What browsers want of a collector beside taking events: cross-origin answers, and the settings of the client."""

from collections.abc import Mapping
from typing import Any

Headers = tuple[tuple[bytes, bytes], ...]

PREFLIGHT_SECONDS = 7200
"""How long a browser may remember the answer to a preflight; Chrome takes no longer."""


def allow(origin: bytes) -> Headers:
    """The headers that let a page of this origin read an answer.

    The origin itself and credentials, not `*`: sendBeacon always sends its requests with credentials.
    """
    return (
        (b"access-control-allow-origin", origin),
        (b"access-control-allow-credentials", b"true"),
        (b"vary", b"Origin"),
    )


def allow_request(origin: bytes, headers: Mapping[bytes, bytes]) -> Headers:
    """The headers that answer a preflight: SDKs add headers of their own with time, so those asked for are granted."""
    asked = headers.get(b"access-control-request-headers")
    return (
        *allow(origin),
        (b"access-control-allow-methods", b"POST, GET"),
        (b"access-control-max-age", b"%d" % PREFLIGHT_SECONDS),
        *(((b"access-control-allow-headers", asked),) if asked else ()),
    )


def client_settings(write_key: str, host: str, scheme: str) -> dict[str, Any]:
    """What analytics.js asks its settings host for: send to this host, everything, and no metrics of its own.

    `apiHost` and `protocol` stand for themselves, since the client would send to Segment without them.
    """
    everything = {"__default": {"enabled": True, "integrations": {}}}
    return {
        "integrations": {
            "Segment.io": {
                "apiKey": write_key,
                "apiHost": f"{host}/v1",
                "protocol": scheme,
                "unbundledIntegrations": [],
                "addBundledMetadata": True,
                "maybeBundledConfigIds": {},
                "versionSettings": {"version": "4.4.7", "componentTypes": ["browser"]},
            }
        },
        "plan": {"track": everything, "identify": everything, "group": everything},
        "edgeFunction": {},
        "analyticsNextEnabled": True,
        "middlewareSettings": {},
        "enabledMiddleware": {},
        "metrics": {"sampleRate": 0},
        "legacyVideoPluginsEnabled": False,
        "remotePlugins": [],
    }
