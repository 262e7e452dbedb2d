"""Python's garbage collector, as processes want it that hold many objects for a moment."""

import gc

THRESHOLDS = (50_000, 20, 50)


def collect_less() -> None:
    """Look for garbage less often.

    What is fetched or taken in lives for a while and has no cycles, so that Python's own thresholds, of 700 objects,
    look through it again and again, at half of a forwarder's time.
    """
    gc.set_threshold(*THRESHOLDS)
