"""What reports are put together to, and what an operator must act on."""

from dataclasses import replace

import pytest

from streams.operations.overview import SILENT_SECONDS, STALLED_SECONDS, make_overview
from streams.parsing.times import rfc3339
from streams.records.control import Control, ControlAction
from streams.records.status import DeliveryState, PipelineStatus, ProcessStatus, VendorStatus

NOW = 1_800_000_000.0
DELIVERING = VendorStatus(DeliveryState.DELIVERING)
ONE = PipelineStatus("one", None, {"forward.one": [0]}, 5, 0, DELIVERING)


def process(kind: str, *pipelines: PipelineStatus, ago: float = 1.0) -> ProcessStatus:
    return ProcessStatus(kind, "app-1", 7, "1.0", "v", rfc3339(NOW - 900), rfc3339(NOW - ago), pipelines)


ROUTER = process("router", PipelineStatus("router", None, {"events": [0]}, 0))


def problems(*processes: ProcessStatus, paused: dict[str, Control] | None = None) -> list[str]:
    reports = {str(number): each for number, each in enumerate(processes)}
    return [problem.what for problem in make_overview(reports, ["one"], paused or {}, NOW).problems]


def test_nothing_to_do_while_all_work():
    """Also while a vendor fails, which is probed, and while an integration is paused by hand."""
    assert not problems(ROUTER, process("forwarder", ONE))
    for state in (DeliveryState.FAILING, DeliveryState.PAUSED):
        assert not problems(ROUTER, process("forwarder", replace(ONE, vendor=VendorStatus(state))))


@pytest.mark.parametrize(
    ("pipeline", "problem"),
    [
        (
            replace(ONE, vendor=VendorStatus(DeliveryState.REFUSED, reason="the vendor rejects the credentials")),
            "one: the vendor rejects the credentials",
        ),
        (replace(ONE, failing="it crashed"), "one: is failing on app-1:7, and restarted: it crashed"),
        (
            replace(ONE, stalled=STALLED_SECONDS),
            f"one: no progress on app-1:7 for {STALLED_SECONDS} s, with records waiting",
        ),
    ],
)
def test_what_an_operator_must_act_on(pipeline: PipelineStatus, problem: str):
    """A refusal is one problem, however many processes have it."""
    assert problems(ROUTER, process("forwarder", pipeline), process("forwarder", pipeline)) == [problem]


def test_a_short_stall_is_no_problem():
    """It is one after a minute."""
    assert not problems(ROUTER, process("forwarder", replace(ONE, stalled=STALLED_SECONDS - 1)))


def test_a_silent_process_matters_if_nobody_does_its_work():
    """A replaced process is shown and is not a problem; each kind has its own line."""
    gone = SILENT_SECONDS + 1
    forwarder = process("forwarder", ONE)
    dead = process("forwarder", ONE, ago=gone)
    assert problems(ROUTER, dead) == ["one: no forwarder reports"]
    assert not problems(ROUTER, dead, forwarder)
    assert problems(process("router", ago=gone), forwarder) == ["no router reports: events are not routed"]
    assert problems(ROUTER, forwarder, process("collector", ago=gone)) == ["no collector reports any more"]
    assert not problems(ROUTER, forwarder, process("collector", ago=gone), process("collector"))


def test_an_integration_over_all_its_processes():
    """Its lag is the sum, its state the worst one."""
    refused = replace(ONE, lag=7, vendor=VendorStatus(DeliveryState.REFUSED, status=401))
    reports = {"a": process("forwarder", ONE), "b": process("forwarder", refused), "c": ROUTER}
    order = Control(ControlAction.PAUSED, "ann", "t")
    overview = make_overview(reports, ["one", "two"], {"two": order}, NOW)
    one, two = overview.integrations
    assert (overview.router.lag, overview.router.vendor) == (0, None)
    assert (one.lag, one.vendor, one.paused) == (12, refused.vendor, None)
    assert (two.lag, two.vendor, two.paused) == (None, None, order)


def lagging(**more: object) -> PipelineStatus:
    return replace(ONE, lag=600, oldest=rfc3339(NOW - 90), expires=rfc3339(NOW + 7 * 86400), **more)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("finished", "arrived", "seconds"),
    [(7.0, 4.0, 200.0), (4.0, 4.0, float("inf")), (2.0, 4.0, float("inf")), (None, None, None)],
)
def test_time_until_nothing_is_left(finished: float | None, arrived: float | None, seconds: float | None):
    """Rates and lags of all processes are added; with more arriving than finished the lag grows."""
    half = replace(
        lagging(),
        lag=300,
        finished=finished and finished / 2,
        arrived=arrived and arrived / 2,
    )
    reports = {"a": process("forwarder", half), "b": process("forwarder", half), "c": ROUTER}
    (one,) = make_overview(reports, ["one"], {}, NOW).integrations
    assert one.drain_seconds == seconds
    data = one.data(NOW)
    assert (data["lag"], data["lag_seconds"], data["retention_hours_left"]) == (600, 90.0, 168.0)
    assert (data["drain_seconds"], data["growing"]) == ((None, True) if seconds == float("inf") else (seconds, False))


@pytest.mark.parametrize(
    ("hours", "age", "must_act"), [(20, 148, True), (30, 138, False), (20, 1, False), (0, 168, True)]
)
def test_retention_is_a_problem_when_little_is_left(hours: float, age: float, must_act: bool):
    """Below a day and a quarter of the whole; then the operator resumes the integration, or raises the retention."""
    near = replace(lagging(), oldest=rfc3339(NOW - age * 3600), expires=rfc3339(NOW + hours * 3600))
    order = Control(ControlAction.PAUSED, "ann", "t")
    reports = {"a": process("forwarder", near), "b": ROUTER}
    found = make_overview(reports, ["one"], {"one": order}, NOW).problems
    assert [problem.what for problem in found] == (
        [f"one: retention removes unfinished records in {hours:.1f} h"] if must_act else []
    )
    assert all("turnout resume one" in problem.action for problem in found)


def test_a_silent_ledger():
    """It matters if there was one, and none reports now."""
    forwarder = process("forwarder", ONE)
    assert problems(ROUTER, forwarder, process("ledger", ago=SILENT_SECONDS + 1)) == ["no ledger reports any more"]
