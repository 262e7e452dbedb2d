"""Find and compile the rules that routed past events."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from importlib.metadata import version
from threading import Lock

from deploy.config.configuration import Configuration
from deploy.config.recorded_rules import UnusableRulesError, read_rules
from deploy.ledger.kafka_facts import RULES_BYTES, FoundRules, KafkaFacts
from streams.records.recorded_rules import RecordedRules

MAX_VERSIONS = 20
"""Compiled versions that are kept."""


@dataclass(frozen=True, slots=True)
class UsedRules:
    """The rules by which an event is explained.

    `problem` is why today's rules are used instead of those that routed the event; None if they are the original ones.
    `remarks` are reasons why an explanation may differ from the decision.
    """

    configuration: Configuration
    problem: str | None = None
    remarks: Sequence[str] = field(default_factory=tuple)


class PastRules:
    """Compiles rules of past versions, and keeps the last ones; for one configuration folder and any thread."""

    def __init__(self, today: Configuration) -> None:
        self.today = today
        self._lock = Lock()
        self._kept: dict[str, UsedRules] = {}

    def find(self, versions: Collection[str], kafka: KafkaFacts) -> Mapping[str, UsedRules]:
        """Return the rules of each version; if unavailable, today's rules with a `problem`."""
        with self._lock:
            return self._find(versions, kafka)

    def _find(self, versions: Collection[str], kafka: KafkaFacts) -> Mapping[str, UsedRules]:
        missing = {each for each in versions if each != self.today.version and each not in self._kept}
        recorded = kafka.rules(missing) if missing else FoundRules({}, cut=False)
        where = f"among the newest {RULES_BYTES >> 20} MB in Kafka" if recorded.cut else "in Kafka"
        found = {}
        for each in versions:
            if each == self.today.version:
                found[each] = UsedRules(self.today)
            elif each in self._kept:
                found[each] = self._kept[each]
            elif each not in recorded.by_version:
                found[each] = UsedRules(self.today, f"the rules {each} are not {where}")
            else:
                found[each] = self._keep(each, recorded.by_version[each])
        return found

    def _keep(self, rules_version: str, recorded: RecordedRules) -> UsedRules:
        try:
            configuration = read_rules(recorded, rules_version, self.today)
        except UnusableRulesError as error:
            used = UsedRules(self.today, f"the rules {rules_version} cannot be used: {error}")
        else:
            remarks = [warning.message for warning in configuration.warnings]
            if recorded.release != version("turnout"):
                remarks.insert(0, f"the rules are of Turnout {recorded.release}, and this is {version('turnout')}")
            used = UsedRules(configuration, None, remarks)
        while len(self._kept) >= MAX_VERSIONS:
            del self._kept[next(iter(self._kept))]
        self._kept[rules_version] = used
        return used
