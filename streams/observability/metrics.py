"""Declare every metric; no label contains data from an event."""

from prometheus_client import Counter, Gauge, Histogram

from streams.records.outcomes import Stage, outcomes_of


def _names(stage: Stage) -> str:
    return ", ".join(f"`{outcome}`" for outcome in outcomes_of(stage))


COLLECTOR_ACCEPTED = Counter(
    "turnout_collector_accepted_events", "Events accepted and confirmed by Kafka, by source.", ["source"]
)
COLLECTOR_REFUSED = Counter(
    "turnout_collector_refused_events", "Invalid events in accepted requests, by reason.", ["code"]
)
COLLECTOR_ERRORS = Counter(
    "turnout_collector_request_errors", "Requests with an error response, by HTTP status.", ["status"]
)
COLLECTOR_DISABLED = Counter(
    "turnout_collector_disabled_requests", "Requests with a disabled write key, or to a disabled source.", ["source"]
)
COLLECTOR_THROTTLED = Counter("turnout_collector_throttled_requests", "Requests over a rate limit.", ["source"])
COLLECTOR_SECONDS = Histogram(
    "turnout_collector_request_seconds",
    "Seconds from a request's head to its response.",
    buckets=(0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 15, 30),
)
COLLECTOR_UNCONFIRMED = Gauge(
    "turnout_collector_unconfirmed_bytes", "Bytes of events that Kafka has not confirmed yet."
)
CONFIGURATION = Gauge("turnout_configuration", "1 for the current version of the rules.", ["version"])
CONFIGURATION_BROKEN = Gauge(
    "turnout_configuration_broken", "1 while the configuration folder is invalid and the previous version is used."
)
ROUTER_EVENTS = Counter("turnout_router_events", "Event records that the router processed, including redelivered ones.")
ROUTER_REJECTED = Counter("turnout_router_rejected_events", "Events rejected or quarantined, by reason.", ["reason"])
RECORDS_LOST = Counter(
    "turnout_lost_records", "Records that retention removed before a worker read them, by topic.", ["topic"]
)
COMMITS_CUT = Counter(
    "turnout_commits_without_room",
    "Commits whose metadata had no room for all offsets that were finished out of order; events at those left out are "
    "delivered again after a restart. By topic.",
    ["topic"],
)
ROUTER_OUTCOMES = Counter(
    "turnout_router_outcomes",
    f"Decisions of the router by integration: `forwarded`, {_names(Stage.ROUTER)}.",
    ["integration", "outcome"],
)
ROUTER_LEFT_OUT = Counter(
    "turnout_router_left_out_values",
    "Values that rules left out of a payload, by directive: numbers that JSON cannot represent, and personal data "
    "that `@hash` could not normalize. A value that several integrations share can be counted once.",
    ["directive"],
)
DELIVERY_OUTCOMES = Counter(
    "turnout_delivery_outcomes",
    f"Outcomes of deliveries by integration: {_names(Stage.FORWARDER)}.",
    ["integration", "outcome"],
)
DELIVERY_LEFT_OUT = Counter(
    "turnout_delivery_left_out_values",
    "Optional values that were left out of deliveries because the vendor would not accept them, by integration.",
    ["integration"],
)
DELIVERY_SECONDS = Histogram(
    "turnout_delivery_request_seconds",
    "Duration of requests to vendors and of writes in seconds, by integration and result: `2xx`, `4xx` and so on "
    "for responses, `written` or `failed` without one.",
    ["integration", "status"],
    buckets=(0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 20, 60),
)
DELIVERY_RETRIES = Counter(
    "turnout_delivery_retries", "Deliveries that are retried after a failed attempt, by integration.", ["integration"]
)
DELIVERY_PAUSED = Gauge(
    "turnout_delivery_paused",
    "1 while an integration's circuit breaker is open in this worker: its vendor fails, or rejects the credentials or "
    "the version of its API.",
    ["integration"],
)
API_SUNSET = Gauge(
    "turnout_api_version_sunset_timestamp_seconds",
    "When the vendor turns off the version of its API that an integration uses, in seconds since 1970; absent if the "
    "vendor has published no date.",
    ["integration"],
)
DELIVERY_HELD = Gauge(
    "turnout_delivery_paused_by_hand",
    "1 while an integration is paused by `turnout pause` in this worker.",
    ["integration"],
)
LAG = Gauge(
    "turnout_lag_records",
    "Unfinished records in this process's partitions of a topic, including those that wait for a vendor.",
    ["topic"],
)
LAG_SECONDS = Gauge(
    "turnout_lag_seconds",
    "Age of the oldest unfinished record of a partition in seconds, by consumer group; 0 without any.",
    ["group", "topic", "partition"],
)
RETENTION_LEFT = Gauge(
    "turnout_retention_hours_left",
    "Hours until Kafka's retention removes the oldest unfinished record of a topic in this process, by consumer group; "
    "the whole retention without any. Not there if the topic keeps records forever.",
    ["group", "topic"],
)
END_TO_END_SECONDS = Histogram(
    "turnout_end_to_end_seconds",
    "Seconds from the moment the collector accepted an event until the vendor accepted it, by integration; not of "
    "objects, which wait until they are complete.",
    ["integration"],
    buckets=(0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 900, 3600, 14400, 86400),
)
BUILD_INFO = Gauge("turnout_build_info", "1 for the release of Turnout that runs.", ["release", "process"])
INTERNAL_FAILURES = Counter(
    "turnout_internal_failures",
    "Records that failed because of an error in Turnout or a plug-in, by worker: `router`, or the integration.",
    ["worker"],
)
WORKER_FAILING = Gauge(
    "turnout_worker_failing",
    "1 while the router or an integration is stopped after a failure and waits for a restart.",
    ["worker"],
)
PLAN_VIOLATIONS = Counter(
    "turnout_plan_violations",
    "Violations of tracking plans, by plan, event and rule: a JSON Schema keyword, "
    "`unplanned_event` or `unplanned_property`.",
    ["plan", "event", "rule"],
)
ENRICHMENT_FAILURES = Counter(
    "turnout_enrichment_failures", "Events for which an enrichment failed; they continue without it.", ["enrichment"]
)
LEDGER_PROBLEMS = Gauge(
    "turnout_ledger_problem_events",
    "Events in the last hourly audit whose books do not balance, by problem; `turnout audit` names them.",
    ["problem"],
)
LEDGER_IN_FLIGHT = Gauge("turnout_ledger_in_flight_events", "Events in flight in the last hourly audit.")
LEDGER_AUDITED = Gauge(
    "turnout_ledger_audited_timestamp_seconds", "When the last hourly audit was completed, in seconds since 1970."
)
