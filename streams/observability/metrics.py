"""Declare every metric; no label contains data from an event."""

from prometheus_client import Counter, Gauge, Histogram

from streams.records.outcomes import Stage, outcomes_of


def _names(stage: Stage) -> str:
    return ", ".join(f"`{outcome}`" for outcome in outcomes_of(stage))


COLLECTOR_ACCEPTED = Counter(
    "turnout_collector_accepted_events", "Events taken and confirmed by Kafka, by source.", ["source"]
)
COLLECTOR_REFUSED = Counter(
    "turnout_collector_refused_events", "Single events refused from an accepted request, by reason.", ["code"]
)
COLLECTOR_ERRORS = Counter(
    "turnout_collector_request_errors", "Requests answered with an error, by HTTP status.", ["status"]
)
COLLECTOR_DISABLED = Counter(
    "turnout_collector_disabled_requests", "Requests with a disabled write key, or to a disabled source.", ["source"]
)
COLLECTOR_THROTTLED = Counter("turnout_collector_throttled_requests", "Requests over a source's rates.", ["source"])
COLLECTOR_SECONDS = Histogram(
    "turnout_collector_request_seconds",
    "Seconds from a request's head to its answer.",
    buckets=(0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 15, 30),
)
COLLECTOR_UNCONFIRMED = Gauge(
    "turnout_collector_unconfirmed_bytes", "Bytes of events that Kafka has not confirmed yet."
)
CONFIGURATION = Gauge("turnout_configuration", "1 for the version of the rules in force.", ["version"])
CONFIGURATION_BROKEN = Gauge(
    "turnout_configuration_broken", "1 while the configuration folder has mistakes, and an older one is in force."
)
ROUTER_EVENTS = Counter("turnout_router_events", "Records of events that the router worked on, redelivered ones again.")
ROUTER_REJECTED = Counter("turnout_router_rejected_events", "Events rejected or quarantined, by reason.", ["reason"])
RECORDS_LOST = Counter(
    "turnout_lost_records", "Records that Kafka's retention removed before a worker read them, by topic.", ["topic"]
)
ROUTER_OUTCOMES = Counter(
    "turnout_router_outcomes",
    f"Decisions of the router by integration: `forwarded`, {_names(Stage.ROUTER)}.",
    ["integration", "outcome"],
)
ROUTER_LEFT_OUT = Counter(
    "turnout_router_left_out_values",
    "Values that rules left out of a payload, by directive: numbers that JSON cannot hold, and personal data that "
    "`@hash` could not normalize.",
    ["directive"],
)
DELIVERY_OUTCOMES = Counter(
    "turnout_delivery_outcomes",
    f"Outcomes of deliveries by integration: {_names(Stage.FORWARDER)}.",
    ["integration", "outcome"],
)
DELIVERY_SECONDS = Histogram(
    "turnout_delivery_request_seconds",
    "Seconds of requests to vendors and of writes, by integration and what came of them: `2xx`, `4xx` and so on for "
    "answers, `written` or `failed` where there is none.",
    ["integration", "status"],
    buckets=(0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 20, 60),
)
DELIVERY_RETRIES = Counter(
    "turnout_delivery_retries", "Deliveries to be tried again after an attempt, by integration.", ["integration"]
)
DELIVERY_PAUSED = Gauge(
    "turnout_delivery_paused",
    "1 while an integration's breaker is open in this worker: its vendor fails, or refuses the credentials.",
    ["integration"],
)
DELIVERY_HELD = Gauge(
    "turnout_delivery_paused_by_hand",
    "1 while an integration is paused by `turnout pause` in this worker.",
    ["integration"],
)
LAG = Gauge(
    "turnout_lag_records",
    "Records not finished in this process's partitions of a topic, those included that wait for a vendor.",
    ["topic"],
)
INTERNAL_FAILURES = Counter(
    "turnout_internal_failures",
    "Records that a worker could not handle because of an error in Turnout or a plug-in, by worker: `router`, or the "
    "integration.",
    ["worker"],
)
WORKER_FAILING = Gauge(
    "turnout_worker_failing",
    "1 while the router or an integration is stopped after a failure, and is restarted with back-off.",
    ["worker"],
)
PLAN_VIOLATIONS = Counter(
    "turnout_plan_violations",
    "What was not as a tracking plan has it, by plan, the plan's event and the rule: a keyword of JSON Schema, "
    "`unplanned_event` or `unplanned_property`.",
    ["plan", "event", "rule"],
)
ENRICHMENT_FAILURES = Counter(
    "turnout_enrichment_failures", "Events that an enrichment failed for; they went on without it.", ["enrichment"]
)
