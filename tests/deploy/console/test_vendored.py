"""The third-party scripts that the console serves are identical to npm's."""

import re

import pytest

from deploy.console.pages import STATIC
from tests.deploy.console import assets
from tests.deploy.console.browsing import PACKAGES
from tests.support import npm

pytestmark = pytest.mark.browser

VENDOR = STATIC / "vendor"


def test_editor_is_what_its_sources_build():
    """`editor.js` is byte for byte what `make assets` builds of its sources, with the licences of its packages."""
    built = assets.build()
    if built is None:
        pytest.skip("npm is missing")
    assert built == assets.BUILT.read_bytes(), "run `make assets`"
    assert (STATIC / "editor.LICENSE").read_text() == assets.licences()


def test_scripts_are_those_of_npm():
    """Each vendored file is npm's, with its licence, and the list has the versions of the packages."""
    modules = npm.installed(PACKAGES)
    if modules is None:
        pytest.skip("npm is missing")
    htmx = [modules / "htmx.org" / "dist" / name for name in ("htmx.min.js", "ext/hx-sse.min.js")]
    texts = [re.sub(r"^//# sourceMappingURL.*\n?", "", path.read_text(), flags=re.MULTILINE) for path in htmx]
    assert (VENDOR / "htmx.js").read_text().split() == "\n".join(texts).split()
    for name, source in (("uplot.js", "uPlot.iife.min.js"), ("uplot.css", "uPlot.min.css")):
        assert (VENDOR / name).read_bytes() == (modules / "uplot" / "dist" / source).read_bytes()
    listed = (VENDOR / "README.md").read_text()
    for package, licence in (("htmx.org", "htmx"), ("uplot", "uplot")):
        version = re.search(r'"version": "([^"]+)"', (modules / package / "package.json").read_text())[1]
        assert f" {version} |" in listed
        assert (VENDOR / f"{licence}.LICENSE").read_bytes() == (modules / package / "LICENSE").read_bytes()
    assert {path.name for path in VENDOR.iterdir()} - {"README.md"} == {
        "htmx.js", "htmx.LICENSE", "uplot.js", "uplot.css", "uplot.LICENSE",
    }  # fmt: skip
