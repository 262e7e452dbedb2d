"""Build the console's editor from its sources: python -m tests.deploy.console.assets."""

import os
import subprocess
from pathlib import Path

from deploy.console.pages import STATIC
from tests.support import npm

SOURCES = Path("deploy/console/assets").resolve()
BUILT = STATIC / "editor.js"
OPTIONS = ("--bundle", "--minify", "--format=esm", "--target=es2022", "--legal-comments=none", "--charset=utf8")


def build() -> bytes | None:
    """Return what esbuild makes of the sources; None without npm."""
    modules = npm.installed(SOURCES)
    if modules is None:
        return None
    command = [modules / ".bin" / "esbuild", SOURCES / "editor.mjs", *OPTIONS]
    ran = subprocess.run(command, env=os.environ | {"NODE_PATH": str(modules)}, check=True, capture_output=True)
    return ran.stdout


def packages() -> dict[str, Path]:
    """Return the folders of the packages that the editor has parts of."""
    modules = npm.modules(SOURCES)
    named = [
        *modules.glob("@codemirror/*"),
        *modules.glob("@lezer/*"),
        *modules.glob("@marijn/*"),
        *modules.glob("[a-z]*"),
    ]
    return {str(path.relative_to(modules)): path for path in sorted(named) if path.name != "esbuild"}


def licences() -> str:
    """Return the licences of these packages, each once."""
    texts: dict[str, list[str]] = {}
    for name, path in packages().items():
        text = next(path.glob("LICENSE*")).read_text()
        texts.setdefault(text.strip(), []).append(name)
    return "\n\n".join(f"{', '.join(names)}\n\n{text}" for text, names in texts.items()) + "\n"


def main() -> None:
    """Write the script and its licences."""
    built = build()
    if built is None:
        raise SystemExit("npm is missing")
    BUILT.write_bytes(built)
    (STATIC / "editor.LICENSE").write_text(licences())


if __name__ == "__main__":
    main()
