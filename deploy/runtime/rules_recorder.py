"""Record the rules that a router uses in the topic `rulesets`, so that its decisions can be explained later."""

from collections.abc import Collection

import structlog
from kafka.errors import ClusterAuthorizationFailedError, TopicAuthorizationFailedError

from deploy.config.configuration import Configuration
from deploy.config.recorded_rules import record_rules
from streams.kafka.admin import find_partitions
from streams.kafka.client import BlockingProducer
from streams.kafka.settings import BrokerError
from streams.records.size import RecordTooLargeError
from streams.topics import Topic

log = structlog.get_logger()

WITHOUT = "`turnout why` explains this version by the rules of its day, not by those of the event"


class RulesRecorder:
    """Records rules before a router uses them. All routers use the same key for the same rules."""

    def __init__(self) -> None:
        self._recorded: str | None = None

    def record(self, configuration: Configuration, without: Collection[str] = ()) -> bool:
        """Record `configuration.rule_set(without)`; returns False if Kafka does not answer. Blocking.

        A missing topic, a missing permission, and rules that are too large for a record are logged: events are routed
        without.
        """
        version, topic = configuration.version_without(without), configuration.topics.rulesets
        if version == self._recorded:
            return True
        broker = configuration.settings.broker
        try:
            if find_partitions(broker, [Topic(topic, 1, None)]):
                with BlockingProducer(broker) as producer:
                    producer.send(topic, version.encode(), record_rules(configuration, without).encode(), 0)
                    producer.confirm()
            else:
                remedy = f"turnout topics --create --config {configuration.folder}, and restart the routers"
                log.warning("a topic is missing", topic=topic, without=WITHOUT, remedy=remedy)
        except BrokerError as error:
            if not isinstance(error.__cause__, TopicAuthorizationFailedError | ClusterAuthorizationFailedError):
                log.warning("cannot record the rules; trying again", version=version, error=str(error))
                return False
            log.error("no permission to write to a topic", topic=topic, without=WITHOUT)  # noqa: TRY400
        except RecordTooLargeError as error:
            log.error("the rules are too large to be recorded", error=str(error), without=WITHOUT)  # noqa: TRY400
        self._recorded = version
        return True
