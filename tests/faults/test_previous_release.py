"""A process of the previous release runs beside those of this one, and the other way round."""

from pathlib import Path

import pytest

from streams.kafka.settings import Broker
from tests.deploy.ledger.stage import Stage, running
from tests.support import previous_release

pytestmark = [pytest.mark.anyio, pytest.mark.kafka, pytest.mark.fault]

PROCESSES = ("router", "forwarder", "ledger")


@pytest.fixture(scope="module")
def previous(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with the code of the previous release."""
    return previous_release.check_out(tmp_path_factory.mktemp("previous"))


async def check(stage: Stage, number: int) -> None:
    """Send two events and a bad one; all are in the books and explained."""
    stage.send(2)
    stage.send(email="bad")
    await stage.routed()
    assert (await stage.run("audit")).exit_code == 0
    why = await stage.run("why", f"m-{number}")
    assert why.exit_code == 0
    for text in (
        "crm      dead ",
        "422",
        "good     delivered",
        "meta     consent",
        "big-order: properties.total > 500",
    ):
        assert text in why.stdout
    rows = (await stage.json("counts", "--by", "integration,outcome"))["rows"]
    counted = {(row["integration"], row["outcome"]): row["count"] for row in rows}
    assert (counted["good", "delivered"], counted["slack", "filtered"]) == (number + 1, number + 1)


@pytest.mark.parametrize("old", PROCESSES)
async def test_the_books_balance_with_a_process_of_the_previous_release(
    broker: Broker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, previous: Path, old: str
):
    """One process is old; then all are new; then all are old again, with the data of the new ones."""
    monkeypatch.setenv("FAULTS_WRITE_KEY", "a key for the users of tests")
    async with running(tmp_path, broker, ()) as stage:
        for number, olds in enumerate([(old,), (), PROCESSES]):
            for name in PROCESSES:
                await stage.start(name, previous if name in olds else None)
            await check(stage, 3 * number + 2)
            for name in PROCESSES:
                await stage.stop(name)
