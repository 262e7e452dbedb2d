"""Run a real PostgreSQL for tests: the installed binaries, and one server in its own folder."""

import os
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from psycopg.conninfo import conninfo_to_dict

USER = "turnout"


def _binaries() -> Path | None:
    """Return the folder of initdb and postgres, which Debian keeps off the PATH."""
    found = shutil.which("initdb")
    folders = [Path(found).parent] if found else sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)
    return next((folder for folder in folders if (folder / "initdb").exists()), None)


def why_not() -> str | None:
    """Return why a real PostgreSQL cannot run here; None if it can."""
    if _binaries() is None:
        return "real PostgreSQL needs initdb and postgres (Debian: apt-get install postgresql)"
    if os.geteuid() == 0 and shutil.which("setpriv") is None:
        return "PostgreSQL does not run as root, and there is no setpriv"
    return None


def _run(arguments: Sequence[str]) -> None:
    as_user = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"] if os.geteuid() == 0 else []
    subprocess.run([*as_user, *arguments], check=True, stdout=subprocess.DEVNULL, cwd="/")


def crash_and_start(address: str) -> None:
    """Crash the server of this DSN, and start it again."""
    folder = Path(conninfo_to_dict(address)["host"])
    _run([*_control(folder), "-m", "immediate", "stop"])
    _start(folder)


def _control(folder: Path) -> list[str]:
    binaries = _binaries()
    assert binaries
    return [str(binaries / "pg_ctl"), "-s", "-w", "-D", str(folder / "data")]


def _start(folder: Path) -> None:
    options = f"-c listen_addresses= -c unix_socket_directories={folder} -c fsync=off"
    _run([*_control(folder), "-l", str(folder / "log"), "-o", options, "start"])


@contextmanager
def running(folder: Path) -> Iterator[str]:
    """Run a server inside a `with` block, on a socket in its folder; yields its superuser's DSN."""
    binaries = _binaries()
    assert binaries
    folder.mkdir()
    if os.geteuid() == 0:
        os.chown(folder, 65534, 65534)
    _run([str(binaries / "initdb"), "-D", str(folder / "data"), "-U", USER, "--auth=trust", "-E", "UTF8", "--no-sync"])
    _start(folder)
    try:
        yield f"host={folder} user={USER} dbname=postgres"
    finally:
        _run([*_control(folder), "-m", "immediate", "stop"])
