"""deploy/docs/sources.md: its examples are what the tests of this room run."""

from tests.clients.sdk import EXAMPLES
from tests.clients.test_browsers import CLIENTS
from tests.clients.test_servers import ALL, JITSU


def test_every_example_is_run():
    """Each example of the page is an SDK that is tested, and the other way round."""
    assert EXAMPLES.keys() == {sdk.name for sdk in ALL} | {JITSU, *CLIENTS}
