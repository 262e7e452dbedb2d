"""Tune Python's garbage collector for processes with many short-lived objects."""

import gc

THRESHOLDS = (50_000, 20, 50)


def relax_gc() -> None:
    """Collect garbage less often.

    Records live for a while and have no reference cycles. With Python's default threshold of 700 objects, the collector
    scans them again and again, which takes half of a forwarder's CPU time.
    """
    gc.set_threshold(*THRESHOLDS)
