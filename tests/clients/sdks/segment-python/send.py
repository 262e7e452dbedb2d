# The calls of calls.json, a list of events of the spec, made with the `analytics` that stands before.
import json
import re
from pathlib import Path

for call in json.loads(Path("calls.json").read_text()):
    method = getattr(analytics, call.pop("type"))  # noqa: F821
    method(**{re.sub("[A-Z]", lambda letter: "_" + letter[0].lower(), name): value for name, value in call.items()})
analytics.flush()  # noqa: F821
