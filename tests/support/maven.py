"""Fetch Java libraries for tests once with Maven into a cache, pinned by a pom.xml."""

import os
import shutil
import subprocess
from pathlib import Path

from tests.support.locks import locked
from tests.support.npm import CACHE


def jars(pom: Path) -> Path | None:
    """Return a folder with the libraries of a pom.xml and their dependencies; None without Java, javac or Maven."""
    if not all(map(shutil.which, ("java", "javac", "mvn"))):
        return None
    cache = CACHE / "java" / pom.parent.name
    fetched = cache / "pom.xml"
    with locked(cache.with_name(f"{cache.name}.lock")):
        if fetched.is_file() and fetched.read_text() == pom.read_text():
            return cache / "lib"
        shutil.rmtree(cache, ignore_errors=True)
        work = cache.with_name(f"{cache.name}.{os.getpid()}")
        work.mkdir(parents=True)
        shutil.copy(pom, work)
        copy = ["mvn", "-q", "-B", "dependency:copy-dependencies", "-DincludeScope=runtime", "-DoutputDirectory=lib"]
        subprocess.run(copy, cwd=work, check=True, capture_output=True, stdin=subprocess.DEVNULL)
        work.rename(cache)
    return cache / "lib"
