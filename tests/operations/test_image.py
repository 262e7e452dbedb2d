"""The container image: its content, and its processes on a real Kafka."""

import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path

import pytest
import requests
from click.testing import CliRunner
from dotenv import dotenv_values

from deploy.cli.main import main
from tests.operations import compose
from tests.operations.conftest import TAG
from tests.support import real_kafka
from tests.support.image import ImageTools, as_options
from tests.support.ports import free_port, free_row

pytestmark = pytest.mark.operations

MAX_BYTES = 400_000_000
USER = "65532"
PROCESSES = ("collector", "router", "forwarder", "ledger")
ROW = 8
"""Ports of the processes' metrics in a row."""


def in_image(tools: ImageTools, *command: str) -> str:
    """Return the output of a command in the image, with the rights that compose.yaml gives."""
    options = ("--rm", "--network", "host", "--read-only", "--tmpfs", "/tmp", "--cap-drop", "all")  # noqa: S108
    return tools.run("podman", "run", *options, "--entrypoint", command[0], TAG, *command[1:]).stdout


def test_what_the_image_says_of_itself(image_tools: ImageTools):
    """It has a user without rights, a health check, a version, and a label that names its bill of materials."""
    found = image_tools.inspect(TAG)
    config = found["Config"]
    assert config["User"] == f"{USER}:{USER}"
    assert config["Entrypoint"] == ["turnout"]
    assert config["Labels"]["org.opencontainers.image.version"] == version("turnout")
    assert config["StopSignal"] == "SIGTERM"
    assert found["Healthcheck"]["Test"][0] == "CMD"
    assert found["Size"] < MAX_BYTES
    bill = json.loads(in_image(image_tools, "cat", config["Labels"]["org.cyclonedx.sbom"]))
    assert (bill["bomFormat"], bill["specVersion"]) == ("CycloneDX", "1.6")
    names = {component["purl"].partition("@")[0] for component in bill["components"]}
    assert {"pkg:pypi/turnout", "pkg:pypi/turnout-tracking", "pkg:pypi/aiokafka", "pkg:deb/debian/python3"} <= names


def test_nothing_to_build_with_is_left(image_tools: ImageTools):
    """The image has no pip, compiler, wheel or setting of the build machine, and it has bytecode."""
    script = (
        "id -u; command -v pip gcc cc make; ls /build; test ! -s /etc/pip.conf || echo pip.conf;"
        "find / -xdev -name '*.whl'; touch /new /opt/turnout/new;"
        "ls /opt/turnout/lib/python3*/site-packages/deploy/cli/__pycache__/main.*.pyc | wc -l"
    )
    ran = image_tools.run(
        *("podman", "run", "--rm", "--network", "host", "--read-only", "--tmpfs", "/tmp", "--cap-drop", "all"),  # noqa: S108
        *("--entrypoint", "sh", TAG, "-c", script),
        check=False,
    )
    assert ran.stdout.split() == [USER, "1"]
    assert ran.stderr.count("Read-only file system") == 2


class Containers:
    """The services of compose.yaml as containers on this machine's network."""

    def __init__(self, tools: ImageTools, folder: Path, bootstrap: str) -> None:
        self._tools, self._folder = tools, folder
        self._id = f"turnout-{free_port()}"
        self.names: list[str] = []
        self.collector, self.ledger, self.simulator = free_port(), free_port(), free_port()
        self._values = {name: value or "" for name, value in dotenv_values(folder / ".env").items()}
        # In compose.yaml, services have names and networks of their own.
        self._own = {
            "TURNOUT_BROKER__BOOTSTRAP": bootstrap,
            "TURNOUT_PREFIX": self._id,
            "TURNOUT_COLLECTOR__PORT": str(self.collector),
            "TURNOUT_LEDGER__PORT": str(self.ledger),
            "TURNOUT_LEDGER__URL": f"http://127.0.0.1:{self.ledger}",
            "ORDERS_URL": f"http://127.0.0.1:{self.simulator}/hooks/orders",
        }
        self.token = self._values["LEDGER_TOKEN"]
        self.key = self._values["WEB_WRITE_KEY"]

    def start(self, service: str, *more: str) -> str:
        """Start a service with its options, command and environment; returns the container's name."""
        declared = compose.own_services()[service]
        environment = self._values | declared["environment"]
        environment = {name: compose.fill(value, self._values) for name, value in environment.items()}
        environment |= self._own | {"TURNOUT_METRICS_PORT": str(free_row(ROW))}
        options = [
            *("--read-only" for _ in [0] if declared["read_only"]),
            *(option for path in declared["tmpfs"] for option in ("--tmpfs", path)),
            *(option for name in declared["cap_drop"] for option in ("--cap-drop", name)),
            *(option for text in declared["security_opt"] for option in ("--security-opt", text.partition(":")[0])),
            *("--volume", f"{self._folder}:/etc/turnout:ro"),
            *(option for path in declared["volumes"][1:] for option in ("--volume", f"{self._id}-{path}")),
            *as_options(environment),
        ]
        name = f"{self._id}-{service}"
        self.names.append(name)
        self._tools.start(name, TAG, options, [*declared["command"], *more])
        return name

    def wait(self, name: str) -> int:
        """Wait until a container ends; returns its exit code."""
        return int(self._tools.run("podman", "wait", name).stdout)

    def is_healthy(self, name: str) -> bool:
        """Run a container's health check."""
        return self._tools.run("podman", "healthcheck", "run", name, check=False).returncode == 0

    def stop(self, name: str) -> int:
        """Stop a container like Docker; returns its exit code."""
        self._tools.run("podman", "stop", "--time", "60", name)
        return self.wait(name)

    def until(self, condition: Callable[[], object], seconds: float = 180.0) -> None:
        """Wait for a condition; fails with all logs."""
        deadline = time.monotonic() + seconds
        while not condition():
            logs = "\n".join(f"{name}: {self._tools.logs(name)[-2000:]}" for name in self.names)
            assert time.monotonic() < deadline, logs
            time.sleep(0.2)

    def close(self) -> None:
        """Remove all containers and volumes."""
        self._tools.remove(self.names)
        self._tools.run("podman", "volume", "prune", "--force", check=False)


@contextmanager
def containers(tools: ImageTools, folder: Path, bootstrap: str) -> Iterator[Containers]:
    """Containers that are removed at the end."""
    made = Containers(tools, folder, bootstrap)
    try:
        yield made
    finally:
        made.close()


def requests_to(url: str) -> list[dict[str, object]]:
    """The requests that the simulator received; none while it does not answer."""
    try:
        received: list[dict[str, object]] = requests.get(url, timeout=60).json()
    except requests.ConnectionError:
        return []
    return received


def test_all_processes_run_from_the_image(image_tools: ImageTools, kafka: real_kafka.Kafka, tmp_path: Path):
    """As compose.yaml starts them, on a real Kafka: an event is delivered, all are healthy, and all stop in order."""
    folder = tmp_path / "shop"
    assert CliRunner().invoke(main, ["init", str(folder)]).exit_code == 0
    folder.chmod(0o755)
    with containers(image_tools, folder, kafka.bootstrap) as running:
        assert running.wait(running.start("topics")) == 0
        running.start("simulator", f"--port={running.simulator}")
        processes = [running.start(name) for name in PROCESSES]
        for name in processes:
            running.until(lambda name=name: running.is_healthy(name))
        event = {"type": "track", "userId": "u-1", "event": "Order Completed"}
        event |= {"properties": {"order_id": "A-1", "total": 5}}  # type: ignore[dict-item]
        url = f"http://127.0.0.1:{running.collector}/v1/track"
        sent = requests.post(url, json=event, auth=(running.key, ""), timeout=60)
        assert sent.json() == {"success": True}
        received = f"http://127.0.0.1:{running.simulator}/_requests"
        running.until(lambda: requests_to(received))
        assert [it["path"] for it in requests_to(received)] == ["/hooks/orders"]
        counts = f"http://127.0.0.1:{running.ledger}/counts?by=outcome"
        headers = {"Authorization": f"Bearer {running.token}"}
        row = {"outcome": "delivered", "count": 1}
        running.until(lambda: row in requests.get(counts, headers=headers, timeout=60).json().get("rows", []))
        assert [running.stop(name) for name in processes] == [0] * len(processes)


def test_a_process_that_does_not_run_is_not_healthy(image_tools: ImageTools):
    """The health check fails if no process of Turnout answers."""
    port = ("--env", f"TURNOUT_METRICS_PORT={free_row(ROW)}")
    command = ["podman", "run", "--rm", "--network", "host", *port, "--entrypoint", "python", TAG]
    checked = image_tools.run(*command, "-P", "-m", "deploy.image.healthcheck", check=False)
    assert checked.returncode == 1
