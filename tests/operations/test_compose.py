"""The file for Docker Compose."""

import json
import os
import re
import shutil
import subprocess
import uuid
from pathlib import Path

import pytest
from click.testing import CliRunner
from dotenv import dotenv_values
from jsonschema import Draft7Validator

from deploy.cli.main import COMMANDS, main
from deploy.config.configuration import read_configuration
from tests.operations import compose
from tests.support import real_kafka

SCHEMA_MODULE = "github.com/compose-spec/compose-go/v2@v2.9.0"

PROCESSES = {"collector", "router", "forwarder", "ledger", "console"}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A new folder of `turnout init`."""
    assert CliRunner().invoke(main, ["init", str(tmp_path / "shop")]).exit_code == 0
    return tmp_path / "shop"


@pytest.mark.operations
def test_it_is_valid():
    """The file follows the Compose specification's schema."""
    if not shutil.which("go"):
        if os.environ.get("TURNOUT_TESTS_NEED_IMAGE"):
            pytest.fail("the schema comes as a Go module")
        pytest.skip("the schema comes as a Go module")
    fetched = subprocess.run(["go", "mod", "download", "-json", SCHEMA_MODULE], capture_output=True, check=True)
    schema = json.loads((Path(json.loads(fetched.stdout)["Dir"]) / "schema" / "compose-spec.json").read_text())
    errors = [f"{error.json_path}: {error.message}" for error in Draft7Validator(schema).iter_errors(compose.data())]
    assert errors == []
    assert list(Draft7Validator(schema).iter_errors({**compose.data(), "servces": {}}))


def test_init_writes_it_with_every_variable(folder: Path):
    """A new folder has the file, and .env has each variable without a default."""
    text = compose.COMPOSE.read_text()
    assert (folder / "compose.yaml").read_text() == text
    values = dotenv_values(folder / ".env")
    required = {name for name, kind in compose.variables_of(text).items() if kind != "-"}
    assert required == {"LEDGER_TOKEN", "GRAFANA_PASSWORD"}
    assert required <= values.keys()


def test_every_process_runs_from_one_image_without_rights():
    """All processes are there, each with a read-only root, no capabilities, and a command that exists."""
    own = compose.own_services()
    assert PROCESSES | {"topics"} <= own.keys()
    assert len({it["image"] for it in own.values()}) == 1
    for service in own.values():
        assert service["read_only"] is True
        assert service["cap_drop"] == ["ALL"]
        assert service["security_opt"] == ["no-new-privileges:true"]
        assert service["command"][0] in COMMANDS
    for name in PROCESSES:
        assert own[name]["depends_on"] == {"topics": {"condition": "service_completed_successfully"}}
        assert int(own[name]["stop_grace_period"].removesuffix("s")) > 25


def test_the_settings_are_valid(folder: Path, monkeypatch: pytest.MonkeyPatch):
    """With the services' environment, a new folder is valid, and points to the other services."""
    values = {name: value or "" for name, value in dotenv_values(folder / ".env").items()}
    oidc = {"issuer": "https://id.example.com", "client_id": "turnout", "client_secret": "s", "operators": ["ops"]}
    monkeypatch.setenv("TURNOUT_CONSOLE__OIDC", json.dumps(oidc))
    for service in compose.own_services().values():
        for name, value in (values | service["environment"]).items():
            monkeypatch.setenv(name, compose.fill(value, values))
        configuration = read_configuration(folder)
        assert not configuration.unset
        settings = configuration.settings
        assert not settings.embedded
        assert settings.broker.bootstrap.removesuffix(":9092") in compose.services()
        assert settings.ledger.address == "http://ledger:8090"
        assert settings.metrics_port
        url = str(configuration.integrations["orders"].settings.url)  # type: ignore[attr-defined]
        assert re.match(r"http://(\w+):8099/", url)[1] in compose.services()  # type: ignore[index]


@pytest.mark.operations
def test_kafka_starts_with_its_settings(tmp_path: Path):
    """The environment of the service `kafka`, as properties, formats a folder and starts a node of Kafka 4."""
    reason = real_kafka.why_not()
    if reason and not os.environ.get("TURNOUT_TESTS_NEED_KAFKA"):
        pytest.skip(reason)
    assert compose.fill(compose.services()["kafka"]["image"], {}).startswith("apache/kafka:4.")
    environment = compose.services()["kafka"]["environment"]
    properties = {
        name.removeprefix("KAFKA_").lower().replace("_", "."): compose.fill(value, {})
        for name, value in environment.items()
        if name.startswith("KAFKA_")
    }
    volume = compose.services()["kafka"]["volumes"][0].partition(":")[2]
    assert properties["log.dirs"] == volume
    assert len(compose.fill(environment["CLUSTER_ID"], {})) == len("MkU3OEVBNTcwNTJENDM2Qg")
    # The container's names and folder are replaced by this machine's.
    own = {"log.dirs": "{logs}", "listeners": "PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller}"}
    for key, value in properties.items():
        if "kafka:909" in value:
            own[key] = value.replace("kafka:9092", "127.0.0.1:{port}").replace("kafka:9093", "127.0.0.1:{controller}")
    assert set(own) == {"log.dirs", "listeners", "advertised.listeners", "controller.quorum.voters"}
    text = "".join(f"{key}={own.get(key, value)}\n" for key, value in properties.items())
    with real_kafka.running(tmp_path / uuid.uuid4().hex, text):
        pass
