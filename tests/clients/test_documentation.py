"""The examples of deploy/docs/sources.md are those that this folder's tests run."""

from tests.clients.sdk import EXAMPLES
from tests.clients.test_browsers import CLIENTS
from tests.clients.test_servers import ALL, JITSU


def test_every_example_is_run():
    """Each example of the page is a tested SDK, and vice versa."""
    assert EXAMPLES.keys() == {sdk.name for sdk in ALL} | {JITSU, *CLIENTS}
