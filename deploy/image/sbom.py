"""Print the software bill of materials of an image, as CycloneDX: Python distributions and Debian packages.

Runs during the build, with the standard library only.
"""

import json
import subprocess
import sys
from collections.abc import Iterator
from importlib import metadata
from urllib.parse import quote

DPKG = ["dpkg-query", "--show", "--showformat", "${Package}\t${Version}\t${Architecture}\n"]


def components() -> Iterator[dict[str, str]]:
    """Yield the components of this environment and of the system."""
    for found in sorted(metadata.distributions(), key=lambda it: it.name.lower()):
        name, version = found.name.lower().replace("_", "-"), found.version
        yield {"type": "library", "name": name, "version": version, "purl": f"pkg:pypi/{name}@{quote(version)}"}
    listed = subprocess.run(DPKG, check=True, capture_output=True, text=True).stdout  # noqa: S603  # fixed words
    for line in listed.splitlines():
        name, version, architecture = line.split("\t")
        purl = f"pkg:deb/debian/{name}@{quote(version)}?arch={architecture}"
        yield {"type": "library", "name": name, "version": version, "purl": purl}


def bill() -> dict[str, object]:
    """Return the bill of materials."""
    return {"bomFormat": "CycloneDX", "specVersion": "1.6", "version": 1, "components": list(components())}


if __name__ == "__main__":
    json.dump(bill(), sys.stdout, indent=1)
