"""Declare the alerts: when each fires, what causes it, and what to do about it."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from deploy.monitoring.queries import highest, increase, lowest, name_of, or_zero
from streams.observability import metrics

RUNBOOK = "https://github.com/turnout-router/turnout/blob/main/deploy/docs/operations/alerts.md"

MAX_STEPS = 3
"""An alert leads to its remedy in at most this number of steps."""


@dataclass(frozen=True, slots=True)
class Alert:
    """An alert of Prometheus.

    It fires if `value` has met `condition` for the time `wait`. `page` is for people who are woken up, `ticket` for the
    next working day. `summary` may contain Prometheus' templates. `steps` lead from the alert to the remedy.
    """

    name: str
    value: str
    condition: str
    wait: str
    severity: Literal["page", "ticket"]
    summary: str
    cause: str
    steps: Sequence[str]

    @property
    def expression(self) -> str:
        """The PromQL expression that has data while the alert fires."""
        return f"{self.value} {self.condition}"

    @property
    def runbook(self) -> str:
        """The URL of the alert's section in the runbook."""
        return f"{RUNBOOK}#{self.name.lower()}"

    def rule(self) -> dict[str, Any]:
        """Return the alert as a rule of Prometheus."""
        return {
            "alert": self.name,
            "expr": self.expression,
            "for": self.wait,
            "labels": {"severity": self.severity},
            "annotations": {"summary": self.summary, "description": self.cause, "runbook_url": self.runbook},
        }


ALERTS = [
    Alert(
        "TurnoutProcessDown",
        'up{job="turnout"}',
        "== 0",
        "5m",
        "page",
        "{{ $labels.instance }} does not answer Prometheus",
        "The process, its machine or the network between them is down. Other processes of its kind take over its "
        "partitions; without one, events wait in Kafka.",
        [
            "`turnout status`: see whether another process of this kind reports.",
            "Read the last lines of its log: a process that ends says why.",
            "Start it again. If it ends again, start the previous release, which reads the same records.",
        ],
    ),
    Alert(
        "TurnoutLag",
        highest(metrics.LAG_SECONDS, ["group", "topic"]),
        "> 300",
        "10m",
        "page",
        "{{ $labels.topic }} is {{ $value | humanizeDuration }} behind",
        "Events come faster than they are processed, or a vendor is slow or paused. They wait in Kafka.",
        [
            "`turnout status`: see which integration is behind, and whether it is paused or failing.",
            "A vendor is slow: raise `delivery.concurrency`, or ask it for a higher rate.",
            "Otherwise start more routers or forwarders, up to the number of [partitions](partitions.md).",
        ],
    ),
    Alert(
        "TurnoutRetentionNear",
        lowest(metrics.RETENTION_LEFT, ["group", "topic"]),
        "< 24",
        "10m",
        "page",
        "Kafka removes unfinished records of {{ $labels.topic }} in {{ $value | humanize }} hours",
        "An integration has been behind or paused for days, and the retention of its topic is near.",
        [
            "Raise `retention.ms` of the topic first, with `kafka-configs.sh`: nothing is lost then.",
            "`turnout status`: see why the integration is behind, and repair that.",
            "It is not needed any more: remove the integration, and its topics.",
        ],
    ),
    Alert(
        "TurnoutPaused",
        highest(metrics.DELIVERY_PAUSED, ["integration"]),
        "== 1",
        "15m",
        "page",
        "{{ $labels.integration }} has been paused for 15 minutes",
        "The vendor fails or rejects the credentials. Nothing is lost: deliveries wait in Kafka, and the vendor is "
        "probed.",
        [
            "`turnout status`: see the vendor's last response.",
            "401, 403 or a token error: [rotate the credentials](secrets.md#credentials-of-a-vendor).",
            "Otherwise see the vendor's status page, and follow [A vendor is away](vendor-outage.md).",
        ],
    ),
    Alert(
        "TurnoutDeadLetters",
        increase(metrics.DELIVERY_OUTCOMES, "15m", ["integration"], 'outcome="dead"'),
        "> 0",
        "0m",
        "ticket",
        "{{ $labels.integration }} has {{ $value }} new dead letters",
        "A vendor rejects deliveries permanently: a field is missing, or its API has changed. Others are delivered.",
        [
            "`turnout dead list --integration NAME --since 1h`: see reasons and rules.",
            "`turnout dead show PLACE`: read the vendor's response; correct the rule, and test it with `turnout test`.",
            "`turnout dead replay --integration NAME`: send them by the new rules.",
        ],
    ),
    Alert(
        "TurnoutWorkerFailing",
        or_zero(highest(metrics.WORKER_FAILING, ["worker"])),
        "== 1",
        "5m",
        "page",
        "{{ $labels.worker }} fails and is restarted",
        "The router or an integration's pipeline stops after each restart: an error in Turnout or in a plug-in, or a "
        "topic that was deleted.",
        [
            "Read the log of the process for `worker failed`, which names the error.",
            "A topic is missing: [create it again](deleted-topic.md). A plug-in fails: install its previous version.",
            "`turnout status`: see that it delivers again.",
        ],
    ),
    Alert(
        "TurnoutConfigurationInvalid",
        highest(metrics.CONFIGURATION_BROKEN, ["instance"]),
        "== 1",
        "10m",
        "ticket",
        "{{ $labels.instance }} cannot use its configuration folder",
        "The folder has an error, and the process continues with the previous version. It would not start again.",
        ["`turnout check DIR`: see each error with its line.", "Correct the files, or deploy the previous ones."],
    ),
    Alert(
        "TurnoutRecordsLost",
        increase(metrics.RECORDS_LOST, "1h", ["topic"]),
        "> 0",
        "0m",
        "page",
        "{{ $value }} records of {{ $labels.topic }} were removed before they were read",
        "A worker was behind for longer than the retention. These records are gone from Kafka, and have the outcome "
        "`lost`.",
        [
            "`turnout status`: see which integration is behind, and why.",
            "Raise `retention.ms` of the topic, so that no more are lost while you repair the cause.",
            "Find the lost events and send them again: [Kafka removed records](retention.md).",
        ],
    ),
    Alert(
        "TurnoutBooksOutOfBalance",
        highest(metrics.LEDGER_PROBLEMS, ["problem"]),
        "> 0",
        "0m",
        "page",
        "{{ $value }} events: {{ $labels.problem }}",
        "The hourly audit found events without an outcome, or with too many. An event may not have reached a vendor.",
        [
            "`turnout audit`: see the events.",
            "`turnout why --at TOPIC:PARTITION:OFFSET`: see what happened to one of them.",
            "Send events without an outcome again: `turnout replay --integration NAME --from TIME --to TIME`.",
        ],
    ),
    Alert(
        "TurnoutAuditOverdue",
        f"time() - {highest(metrics.LEDGER_AUDITED)}",
        "> 10800",
        "5m",
        "ticket",
        "no audit for {{ $value | humanizeDuration }}",
        "The ledger is behind, or cannot reach Kafka. Lost events would not be noticed.",
        [
            "Read the ledger's log: `audit postponed` and `the audit failed` have the reason.",
            "Its disk is full: enlarge it. Its files are damaged: [restore or rebuild it](ledger.md).",
        ],
    ),
    Alert(
        "TurnoutApiVersionSunset",
        f"{lowest(metrics.API_SUNSET, ['integration'])} - time()",
        f"< {30 * 24 * 3600}",
        "1h",
        "ticket",
        "the vendor turns off the API version of {{ $labels.integration }} in {{ $value | humanizeDuration }}",
        "The integration uses a version of the vendor's API that ends soon. Then the vendor rejects its deliveries.",
        [
            "`turnout check DIR`: see the setting and the newest version that this release knows.",
            "Read what the vendor changed, set the version, and try it: `turnout verify NAME --event FILE`.",
            "No newer version is known: install a newer release of Turnout.",
        ],
    ),
    Alert(
        "TurnoutCollectorErrors",
        or_zero(f'sum (rate({name_of(metrics.COLLECTOR_ERRORS)}{{status=~"5.."}}[5m]))'),
        "> 0",
        "5m",
        "page",
        "the collector answers {{ $value | humanize }} requests per second with 5xx",
        "Kafka does not confirm events. Clients that retry lose nothing.",
        [
            "See whether Kafka's brokers are up, and whether partitions have fewer than `min.insync.replicas`.",
            "Start the failed broker again: [A broker is lost](lost-broker.md). The collector needs no restart.",
        ],
    ),
]


def rules() -> dict[str, Any]:
    """Return the rule file of Prometheus."""
    return {"groups": [{"name": "turnout", "rules": [alert.rule() for alert in ALERTS]}]}
