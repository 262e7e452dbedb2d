"""Every store keeps the union of the records that it is given, in any chunks and with repeats."""

import random
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streams.ledger.intake import RecordIntake
from streams.ledger.store import NoUserIndexError, Remark, total
from streams.records.event import Origin
from streams.records.outcomes import OutcomeDetail, OutcomeInterval
from streams.records.run_header import hash_id
from tests.streams.ledger.making import DAY_MS, START_MS, TOPICS, Oracle, Records, counts_of, feed, user
from tests.streams.ledger.steps import EVERY_STORE, KEY, MEMORY, STEPS, MakeStore, check, examples, make

pytestmark = pytest.mark.parametrize("make_store", EVERY_STORE)


def test_records_in_any_chunks_give_what_a_simple_oracle_says(make_store: MakeStore):
    """Counts, places and outcomes do not depend on how records are cut into batches."""

    @settings(max_examples=examples(make_store), deadline=None)
    @given(STEPS, st.integers(1, 6))
    def run(steps: list, chunk: int) -> None:
        records = make(steps).made
        with TemporaryDirectory(dir=MEMORY) as folder:
            store = make_store(Path(folder), KEY)
            feed(store, records, chunk)
            check(store, Oracle(records))
            store.close()

    run()


def test_repeated_records_change_nothing(make_store: MakeStore):
    """Routers and forwarders repeat outcomes after a crash; each event counts once."""

    @settings(max_examples=examples(make_store), deadline=None)
    @given(STEPS, st.integers(1, 4), st.randoms(use_true_random=False))
    def run(steps: list, chunk: int, chance: random.Random) -> None:
        once = make(steps)
        twice = make(steps + [step for step in steps if chance.random() < 0.5])
        with TemporaryDirectory(dir=MEMORY) as folder:
            store = make_store(Path(folder), KEY)
            feed(store, twice.made, chunk)
            # The collector's rejected events have no coordinates but their own.
            if all(step[0] != "rejected" for step in steps):
                assert counts_of(store) == Oracle(once.made).counts()
            check(store, Oracle(twice.made))
            store.close()

    run()


def test_a_count_moves_when_a_dead_letter_is_delivered(make_store: MakeStore, tmp_path: Path):
    """The event leaves `forwarded`, then `dead`, for good; a late `dead` does not bring it back."""
    store = make_store(tmp_path, KEY)
    records = Records()
    stages = [
        lambda: records.run(0, range(10), [OutcomeInterval("ga4", "r", "forwarded", 0, 9)]),
        lambda: records.outcomes(
            0, [OutcomeInterval("ga4", "r", "dead", 3, 3)], [OutcomeDetail("ga4", "r", "dead", 3, "status", "422")]
        ),
        lambda: records.outcomes(0, [OutcomeInterval("ga4", "r", "delivered", 0, 5)]),
        lambda: records.outcomes(
            0, [OutcomeInterval("ga4", "r", "dead", 3, 3)], [OutcomeDetail("ga4", "r", "dead", 3, "status", "422")]
        ),
    ]
    expected = [{"forwarded": 10}, {"forwarded": 9, "dead": 1}, {"forwarded": 4, "delivered": 6}]
    for stage, numbers in zip(stages, [*expected, expected[-1]], strict=True):
        stage()
        feed(store, records.made)
        found: dict[str, int] = {}
        for count in store.counts(0, 2**40):
            if count.key.integration:
                found[count.key.outcome] = found.get(count.key.outcome, 0) + count.number
        assert found == numbers
    store.close()


def test_an_outcome_before_its_run_header_counts_once_the_header_is_there(make_store: MakeStore, tmp_path: Path):
    """A forwarder may be faster than the router's record of outcomes."""
    store = make_store(tmp_path, KEY)
    records = Records()
    records.outcomes(0, [OutcomeInterval("ga4", "r", "delivered", 0, 5)])
    feed(store, records.made)
    assert total(store.counts(0, 2**40)) == 0
    records.run(0, range(10), [OutcomeInterval("ga4", "r", "forwarded", 0, 9)])
    feed(store, records.made)
    assert counts_of(store) == Oracle(records.made).counts()
    assert total(count for count in store.counts(0, 2**40) if count.key.outcome == "delivered") == 6
    store.close()


def test_without_a_key_there_is_no_index_of_users(make_store: MakeStore, tmp_path: Path):
    """Neither the digests of users are written, nor can users be found; ids can."""
    store = make_store(tmp_path, None)
    records = Records()
    records.run(0, range(10), [])
    feed(store, records.made)
    assert store.find_id(hash_id("m-0-7")) == [Origin(TOPICS.events, 0, 7)]
    with pytest.raises(NoUserIndexError, match="user_key"):
        store.find_user(hash_id(user(1)))
    store.close()


def test_reasons_and_dead_letters_are_found_by_place(make_store: MakeStore, tmp_path: Path):
    """The details of our own checks are kept, the vendor's are only in the dead letter, whose place is known."""
    store = make_store(tmp_path, KEY)
    records = Records()
    records.run(
        0,
        [5],
        [],
        [OutcomeDetail("", "", "noted", 5, "plan", "shop"), OutcomeDetail("ga4", "", "filtered", 5, "bot", "crawler")],
    )
    records.outcomes(0, [], [OutcomeDetail("crm", "r", "dead", 5, "status", "a@b.example")])
    records.dead(0, 5, "crm", "r")
    feed(store, records.made + records.made)
    place = Origin(TOPICS.events, 0, 5)
    assert sorted(store.remarks(place)) == [
        Remark("", "", "noted", "plan", "shop"),
        Remark("crm", "r", "dead", "status", ""),
        Remark("ga4", "", "filtered", "bot", "crawler"),
    ]
    (letter,) = store.dead_letters(place)
    assert letter[1:] == ("crm", "r", 0, 0, "status", 3, 422)
    store.close()


def test_deleting_the_folder_rebuilds_the_same_ledger(make_store: MakeStore, tmp_path: Path):
    """Everything comes from Kafka: read from the beginning, the records give the same answers."""
    records = Records()
    for start in range(0, 100, 10):
        records.run(
            0,
            range(start, start + 10),
            [OutcomeInterval("ga4", "r", "forwarded", start, start + 9)],
            at=START_MS + start * DAY_MS // 50,
        )
        records.outcomes(0, [OutcomeInterval("ga4", "r", "delivered", start, start + 7)])
    for folder, chunk in ((tmp_path / "a", 1), (tmp_path / "b", 7)):
        store = make_store(folder, KEY)
        feed(store, records.made, chunk)
        check(store, Oracle(records.made))
        store.close()


def test_dead_letters_leave_their_group_when_they_are_handled_or_delivered(make_store: MakeStore, tmp_path: Path):
    """Replayed, dropped and delivered ones no longer count as open, in whatever order the records come."""
    records = Records()
    for offset in range(6):
        records.dead(0, offset, "crm", "r", detail=f"order {offset} is invalid", at=START_MS + offset * 3_600_000)
    records.dead(1, 9, "crm", "r", detail="too long")
    early = list(records.made)
    records.handled(0, [1, 4])
    records.outcomes(
        0, [OutcomeInterval("crm", "r", "delivered", 2, 2), OutcomeInterval("crm", "s", "delivered", 3, 3)]
    )
    for order in (records.made, [*records.made[len(early) :], *early]):
        folder = tmp_path / str(order is records.made)
        store = make_store(folder, KEY)
        intake = RecordIntake(TOPICS)
        for record in order:
            intake.take(record)
            store.write(intake.finish())
        groups = {group.key.message: group for group in store.dead_groups(START_MS // 1000 + 2 * 3600)}
        invalid = groups["order … is invalid"]
        assert (invalid.open, invalid.total) == (3, 6)
        assert [*invalid.newest] == [(0, 5), (0, 3), (0, 0)]
        assert sum(invalid.hours.values()) == 4
        assert (invalid.first, invalid.last) == (START_MS // 1000, START_MS // 1000 + 5 * 3600)
        assert groups["too long"][1:3] == (1, 1)
        store.close()


def test_groups_of_dead_letters_are_bounded_and_expire(
    make_store: MakeStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """Beyond a number of groups dead letters share one per integration; all are kept as long as dead letters."""
    monkeypatch.setattr("streams.ledger.store.MAX_GROUPS", 3)
    store = make_store(tmp_path, KEY)
    records = Records()
    for number in range(6):
        records.dead(0, number, "crm", f"r{number}")
    feed(store, records.made)
    assert sorted((group.key.rule, group.open) for group in store.dead_groups(0)) == [
        ("", 3), ("r0", 1), ("r1", 1), ("r2", 1),
    ]  # fmt: skip
    store.expire(START_MS / 1000 + 27 * 24 * 3600)
    assert len(store.dead_groups(0)) == 4
    store.expire(START_MS / 1000 + 29 * 24 * 3600)
    assert not store.dead_groups(0)
    records.dead(0, 7, "crm", "new", at=START_MS + 29 * DAY_MS)
    feed(store, records.made)
    assert [(group.key.rule, group.open) for group in store.dead_groups(0)] == [("new", 1)]
    store.close()
