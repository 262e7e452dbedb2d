"""Tune Python's garbage collector for processes with many short-lived objects."""

import gc

THRESHOLDS = (50_000, 20, 50)


def relax_gc() -> None:
    """Collect garbage less often.

    What is fetched or taken in lives for a while and has no cycles, so that Python's own thresholds, of 700 objects,
    look through it again and again, at half of a forwarder's time.
    """
    gc.set_threshold(*THRESHOLDS)
