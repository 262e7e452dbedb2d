import json
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner
from dotenv import dotenv_values

from deploy.cli.main import main
from streams.kafka.admin import create_topics
from streams.topics import Topic
from tests.support import tansu

EXAMPLE = Path("deploy/example").resolve()
DEMO = {name: value or "" for name, value in dotenv_values(EXAMPLE / "demo.env").items()}


def turnout(*arguments: object, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run the command like a user, with only the given variables of Turnout in its environment."""
    return subprocess.run(
        [Path(sys.executable).parent / "turnout", *map(str, arguments)],
        env={"PATH": "/usr/bin:/bin", "HOME": str(Path.home()), **environment},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )


def turnout_here(*arguments: object, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run a command that ends at once in this process, which is much faster."""
    done = CliRunner(env=environment).invoke(main, list(map(str, arguments)))
    return subprocess.CompletedProcess(arguments, done.exit_code, done.stdout, done.stderr)


@pytest.fixture(scope="module")
def broker():
    """An embedded broker without topics."""
    with tansu.running() as running:
        yield running


@pytest.fixture
def example(tmp_path):
    return shutil.copytree(EXAMPLE, tmp_path / "example")


def test_check_passes(example):
    """A folder without mistakes gives exit code 0, without any secret being set."""
    done = turnout("check", "--config", example)
    assert done.returncode == 0
    assert done.stdout.startswith(f"{example}: no errors in 2 sources, 3 integrations, ")
    assert done.stdout.endswith(f"needed by workers: {', '.join(sorted(DEMO))}\n")
    assert not done.stderr


def test_check_as_json(example):
    """With --json programs can read each mistake's place."""
    (example / "sources/web.yaml").write_text("source: wep\n")
    done = turnout_here("check", "--config", example, "--json")
    assert done.returncode == 2
    (first, second) = json.loads(done.stdout)["mistakes"]
    assert (Path(first["path"]).name, first["line"], first["column"]) == ("web.yaml", 1, 9)
    assert second["hint"] == "did you mean 'wep'?"


@pytest.mark.parametrize("command", ["topics", "collector", "router", "forwarder", "up"])
def test_every_command_checks_first(example, command):
    """With a mistake in the folder no command does anything but show it, and exits with 2."""
    (example / "turnout.yaml").write_text("partitions: many\n")
    done = turnout_here(command, "--config", example)
    assert done.returncode == 2
    assert done.stderr.startswith(f"{example}/turnout.yaml:1:13: partitions: should be a valid integer")
    # `up` first says what it reads, because that takes seconds on a busy machine.
    first, _, rest = done.stdout.partition("\n")
    assert first == (f"starting with the configuration in {example}" if command == "up" else "")
    assert all(line.startswith("waiting for Python to load the modules") for line in rest.splitlines())


@pytest.mark.parametrize(
    ("command", "wanted"),
    [
        (["collector"], {"WEB_WRITE_KEY", "SERVER_WRITE_KEY"}),
        (["router"], {"WEB_WRITE_KEY", "SERVER_WRITE_KEY"}),
        (["forwarder"], {"WEBHOOK_TOKEN", "WEBHOOK_URL", "GA4_API_SECRET", "GA4_ENDPOINT"}),
        (["forwarder", "ga4", "file"], {"GA4_API_SECRET", "GA4_ENDPOINT"}),
    ],
)
def test_worker_wants_its_own_secrets_only(example, command, wanted):
    """A worker refuses to start without the variables of the files it works by, names them, and wants no other."""
    done = turnout_here(*command, "--config", example)
    assert done.returncode == 2
    assert {name for name in DEMO if f"the environment variable {name} is not set" in done.stderr} == wanted


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["chek"], "No such command 'chek'"),
        (["forwarder", "ga5"], "no integration is called 'ga5' (did you mean 'ga4'?)"),
        (["simulate", "--port", "many"], "'many' is not a valid integer"),
    ],
)
def test_wrong_use(arguments, line):
    """A usage error gives exit code 2 and a message."""
    done = turnout_here(*arguments, TURNOUT_CONFIG=str(EXAMPLE), **DEMO)
    assert done.returncode == 2
    assert line in done.stderr
    assert "Traceback" not in done.stderr


def test_topics(example, broker):
    """`topics` lists missing and different topics, and creates missing ones; workers refuse to start until then."""
    there = {**DEMO, "TURNOUT_BROKER__BOOTSTRAP": broker.bootstrap, "TURNOUT_CONFIG": str(example)}
    done = turnout("topics", **there)
    assert (done.returncode, done.stdout.count("missing")) == (1, 14)

    done = turnout("router", **there)
    assert done.returncode == 1
    assert "topic turnout.events is missing" in done.stderr
    assert done.stderr.endswith(f"(create them with: turnout topics --create --config {example})\n")

    done = turnout_here("topics", "--create", "--json", **there)
    assert done.returncode == 0
    assert {"topic": "turnout.forward.ga4", "declared": 4, "there": 4} in json.loads(done.stdout)

    done = turnout_here("topics", TURNOUT_PARTITIONS="5", **there)
    assert (done.returncode, done.stdout.count("differs")) == (1, 10)
    done = turnout("collector", TURNOUT_PARTITIONS="5", **there)
    assert done.returncode == 1
    assert "topic turnout.events has 4 partitions, but 5 are declared" in done.stderr


def test_topics_of_others(example, broker):
    """`topics` says that one which a source reads is missing, creates it not, and takes any number of partitions."""
    with (example / "sources/server.yaml").open("a") as file:
        file.write("topics: [shop.orders]\n")
    there = {**DEMO, "TURNOUT_BROKER__BOOTSTRAP": broker.bootstrap, "TURNOUT_PREFIX": "others"}
    there["TURNOUT_CONFIG"] = str(example)
    done = turnout_here("topics", "--create", **there)
    assert (done.returncode, done.stdout.count("missing")) == (1, 1)
    create_topics(broker, [Topic("shop.orders", 7, 86400)], replication=1, timeout=60)
    done = turnout_here("topics", "--json", **there)
    assert done.returncode == 0
    assert {"topic": "shop.orders", "declared": None, "there": 7} in json.loads(done.stdout)


def test_busy_port():
    """A port that is taken is one line and exit code 1."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        done = turnout("simulate", "--port", port)
    assert done.returncode == 1
    assert done.stderr == f"turnout: cannot listen on 127.0.0.1:{port}: Address already in use\n"


def test_check_is_quick_to_start():
    """`check` loads no client, server or table, nor what only tests and enrichments with a database need."""
    code = (
        "import sys; from click.testing import CliRunner; from deploy.cli.main import main;"
        f"CliRunner().invoke(main, ['check', '--config', {str(EXAMPLE)!r}], catch_exceptions=False);"
        "late = 'faust aiokafka kafka aiohttp uvicorn pyarrow hypothesis maxminddb ua_parser rich.table "
        "deploy.dryrun.rule_test_runner';"
        "print(sorted(set(late.split()) & sys.modules.keys()))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
