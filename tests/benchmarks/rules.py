"""Measure mappings per CPU-second, beside a hand-written function and peers, and the loading of rule files.

Run: python -m tests.benchmarks.rules
"""

import json
import os
import shutil
import subprocess
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from statistics import median
from typing import Any

from tests.support import npm
from tests.transforms.segment import HERE
from transforms import compile_mapping, read_rules
from transforms.documents import Document

# The GA4 purchase of Segment's catalogue: 22 fields, half of them in each product.
MAPPING = {
    "client_id": "$.anonymousId",
    "user_id": "$.userId",
    "timestamp_micros": {"@date": {"value": "$.timestamp", "to": "unix_us"}},
    "name": "purchase",
    "params": {
        "currency": {"@default": ["$.properties.currency", "USD"]},
        "value": {"@number": "$.properties.total"},
        "transaction_id": "$.properties.order_id",
        "affiliation": "$.properties.affiliation",
        "coupon": "$.properties.coupon",
        "shipping": {"@number": "$.properties.shipping"},
        "tax": {"@number": "$.properties.tax"},
        "items": {
            "@each": [
                "$.properties.products",
                {
                    "item_id": "$.product_id",
                    "item_name": "$.name",
                    "affiliation": "$.affiliation",
                    "coupon": "$.coupon",
                    "discount": {"@number": "$.discount"},
                    "index": "$.position",
                    "item_brand": "$.brand",
                    "item_category": "$.category",
                    "item_variant": "$.variant",
                    "price": {"@number": "$.price"},
                    "quantity": {"@integer": "$.quantity"},
                },
            ]
        },
    },
}

EVENT = {
    "type": "track",
    "event": "Order Completed",
    "messageId": "m-1",
    "anonymousId": "a-1",
    "userId": "u-1",
    "timestamp": "2026-01-02T03:04:05.678Z",
    "context": {"page": {"url": "https://shop.example/checkout"}, "ip": "203.0.113.9"},
    "properties": {
        "order_id": "o-1",
        "affiliation": "Shop",
        "total": 119.5,
        "shipping": 4.5,
        "tax": 19,
        "coupon": "NEW",
        "currency": "EUR",
        "products": [
            {
                "product_id": f"p-{number}",
                "name": "Shoe",
                "brand": "Brand",
                "category": "Shoes",
                "variant": "red",
                "price": 48.0,
                "quantity": 1,
                "coupon": "NEW",
                "position": number,
            }
            for number in (1, 2)
        ],
    },
}

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
MISSING = object()


def number(value: Any) -> Any:
    try:
        return value if isinstance(value, int | float) else float(value)
    except (TypeError, ValueError):
        return MISSING


def by_hand(event: dict[str, Any]) -> dict[str, Any]:
    """Map an event with careful hand-written code: nothing raises, and missing values are left out."""
    payload: dict[str, Any] = {}
    for source, target in (("anonymousId", "client_id"), ("userId", "user_id")):
        if source in event:
            payload[target] = event[source]
    try:
        moment = datetime.fromisoformat(event["timestamp"])
        payload["timestamp_micros"] = int((moment - EPOCH).total_seconds() * 1e6)
    except (KeyError, TypeError, ValueError):
        pass
    payload["name"] = "purchase"
    properties = event.get("properties")
    payload["params"] = params_by_hand(properties if isinstance(properties, dict) else {})
    return payload


def params_by_hand(properties: dict[str, Any]) -> dict[str, Any]:
    currency = properties.get("currency")
    params: dict[str, Any] = {"currency": "USD" if currency is None else currency}
    if (value := number(properties.get("total", MISSING))) is not MISSING:
        params["value"] = value
    if (value := properties.get("order_id", MISSING)) is not MISSING:
        params["transaction_id"] = value
    if (value := properties.get("affiliation", MISSING)) is not MISSING:
        params["affiliation"] = value
    if (value := properties.get("coupon", MISSING)) is not MISSING:
        params["coupon"] = value
    if (value := number(properties.get("shipping", MISSING))) is not MISSING:
        params["shipping"] = value
    if (value := number(properties.get("tax", MISSING))) is not MISSING:
        params["tax"] = value
    products = properties.get("products")
    if isinstance(products, list):
        params["items"] = [item_by_hand(each if isinstance(each, dict) else {}) for each in products]
    return params


def item_by_hand(product: dict[str, Any]) -> dict[str, Any]:
    item: dict[str, Any] = {}
    if "product_id" in product:
        item["item_id"] = product["product_id"]
    if "name" in product:
        item["item_name"] = product["name"]
    if "affiliation" in product:
        item["affiliation"] = product["affiliation"]
    if "coupon" in product:
        item["coupon"] = product["coupon"]
    if "discount" in product:
        item["discount"] = number(product["discount"])
    if "position" in product:
        item["index"] = product["position"]
    if "brand" in product:
        item["item_brand"] = product["brand"]
    if "category" in product:
        item["item_category"] = product["category"]
    if "variant" in product:
        item["item_variant"] = product["variant"]
    if "price" in product:
        item["price"] = number(product["price"])
    if "quantity" in product:
        item["quantity"] = int(product["quantity"])
    return item


def per_second(function: Callable[[Any], Any], event: Any, count: int = 40_000) -> float:
    start = time.process_time()
    for _ in range(count):
        function(event)
    return count / (time.process_time() - start)


def for_segment(mapping: Any) -> Any:
    """Return the mapping in the form of Segment's kit, without casts and dates, which it lacks."""
    if isinstance(mapping, str):
        return {"@path": mapping} if mapping.startswith("$") else mapping
    if isinstance(mapping, list):
        return [for_segment(each) for each in mapping]
    match mapping:
        case {"@each": [path, shape]}:
            return {"@arrayPath": [path, for_segment(shape)]}
        case {"@default": [path, default]}:
            return {"@if": {"exists": {"@path": path}, "then": {"@path": path}, "else": default}}
        case {"@date": {"value": path}} | {"@number": path} | {"@integer": path}:
            return {"@path": path}
    return {key: for_segment(each) for key, each in mapping.items()}


def segment_rate() -> float | None:
    """Return the mappings per second of CPU time of Segment's engine; None if Node is not installed."""
    found = npm.command(Path(__file__).with_name("segment.js"), HERE)
    if found is None:
        return None
    question = json.dumps({"mapping": for_segment(MAPPING), "event": EVENT})
    answer = subprocess.run(found[0], env=found[1], input=question, capture_output=True, check=True, text=True)
    rate: float = json.loads(answer.stdout)["rate"]
    return rate


def bloblang_rate() -> float | None:
    """Return the mappings per second of CPU time of Bloblang, of a parsed event; None if Go is not installed."""
    go, folder = shutil.which("go"), Path(__file__).with_name("bloblang")
    if go is None:
        return None
    npm.CACHE.mkdir(parents=True, exist_ok=True)
    program = npm.CACHE / "bloblang"
    subprocess.run([go, "build", "-o", str(program), "."], cwd=folder, check=True, capture_output=True)
    question = json.dumps({"mapping": (folder / "purchase.blobl").read_text(), "event": EVENT})
    one = os.environ | {"GOMAXPROCS": "1"}
    answer = subprocess.run([str(program)], env=one, input=question, capture_output=True, check=True, text=True)
    rate: float = json.loads(answer.stdout)["rate"]
    return rate


def rule_file(rules: int) -> Document:
    """Return a file with a rule per event of a shop, each with one more test than `type` and `event`."""
    lines = ["rules:"]
    for index in range(rules):
        condition = f'type = "track" and event = "Event {index}" and properties.total > 1'
        lines += [f"  - name: rule {index}", f"    when: '{condition}'", "    map: {name: $.event, id: $.messageId}"]
    return Document.parse("\n".join(lines), "benchmark.yaml")


def last_of(count: int) -> Callable[[], float]:
    """Return a measure of the events per second that match the last of `count` rules."""
    rules, errors = read_rules(rule_file(count))
    if rules is None:
        raise SystemExit(str(errors[0]))
    event = EVENT | {"event": f"Event {count - 1}"}
    return lambda: per_second(rules.apply, event)


def load_seconds(files: int = 300) -> float:
    """Return the seconds to load files with 60 lines and 30 distinct paths each."""
    texts = []
    for file in range(files):
        lines = [f"integration: file-{file}", "rules:"]
        for rule in range(6):
            lines += [f"  - name: rule {rule}", f'    when: \'type = "track" and event = "Event {rule}"\'', "    map:"]
            lines += [f"      field_{field}: $.properties.group_{file}.name_{rule}_{field}" for field in range(5)]
            lines += ["      kind: purchase", "      version: 1"]
        texts.append("\n".join(lines))
    start = time.process_time()
    for text in texts:
        rules, errors = read_rules(Document.parse(text, "load.yaml"))
        if rules is None:
            raise SystemExit(str(errors[0]))
    return time.process_time() - start


def main() -> None:
    """Print the figures."""
    mapping = compile_mapping(MAPPING)
    if mapping(EVENT) != by_hand(EVENT):
        raise SystemExit("the two do not agree")
    pairs = [(per_second(mapping, EVENT), per_second(by_hand, EVENT)) for _ in range(7)]
    ours, hand = median(pair[0] for pair in pairs), median(pair[1] for pair in pairs)
    ratio = median(by_hand_rate / rate for rate, by_hand_rate in pairs)
    print(
        f"purchase: {ours:,.0f} mappings/s, by hand {hand:,.0f}/s: {ratio:.2f} times the time of the hand-written one"
    )
    for peer, measure in (("Segment's engine", segment_rate), ("Bloblang", bloblang_rate)):
        rounds = [(per_second(mapping, EVENT), measure()) for _ in range(3)]
        ratios = [here / there for here, there in rounds if there]
        if ratios:
            there = median(rate for _, rate in rounds if rate)
            print(f"purchase by {peer}: {there:,.0f} mappings/s, {median(ratios):.1f} times as many here")
        else:
            print(f"purchase by {peer}: not measured, what runs it is not installed")
    few, many = last_of(10), last_of(200)
    ratios = [few() / many() - 1 for _ in range(15)]
    print(f"200 rules, the last one matches: {many():,.0f} events/s; from 10 to 200 rules costs {median(ratios):+.1%}")
    print(f"300 files of 60 lines: {load_seconds():.2f} s")


if __name__ == "__main__":
    main()
