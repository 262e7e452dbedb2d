"""What all commands have in common: help, the folder's name, completion, exit codes, and a Kafka that is not there."""

import json
import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import click
import pytest
from click.testing import CliRunner
from dotenv import dotenv_values

from deploy.cli.main import main
from tests.support.ports import free_port

EXAMPLE = Path("deploy/example").resolve()
DEMO = {name: value or "" for name, value in dotenv_values(EXAMPLE / "demo.env").items()}
TURNOUT = Path(sys.executable).parent / "turnout"

ON_KAFKA = (
    "topics",
    "collector",
    "router",
    "forwarder",
    "ledger",
    "up",
    "status",
    "tail",
    "record --last 5",
    "diff FOLDER FOLDER --since 1h",
    "pause ga4",
    "resume ga4",
    "probe ga4",
    "why m-1",
    "dead list",
    "dead show 0:0",
    "dead replay --yes",
    "dead drop --yes",
    "rejected list",
    "rejected show 0:0",
    "rejected replay --yes",
    "replay --integration webhook --from 2h --to 1h --yes --force",
    "suppress u",
    "suppress --list",
    "explain --broker --event -",
)
"""Every command that needs Kafka."""

WORKERS = ("collector", "router", "forwarder", "ledger", "up")
"""Those that run until they are stopped."""


def groups(command: click.Command = main, words: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """The words of each group of commands."""
    if isinstance(command, click.Group):
        yield words
        context = click.Context(command)
        for name in command.list_commands(context):
            inner = command.get_command(context, name)
            assert inner
            yield from groups(inner, (*words, name))


def commands(command: click.Command = main) -> Iterator[click.Command]:
    """Yield every command that is not a group."""
    if isinstance(command, click.Group):
        context = click.Context(command)
        for name in command.list_commands(context):
            inner = command.get_command(context, name)
            assert inner
            yield from commands(inner)
    else:
        yield command


@pytest.mark.parametrize("words", list(groups()), ids=" ".join)
def test_no_line_of_a_list_of_commands_is_cut(words: tuple[str, ...]):
    """At 80 columns each command has one line, which ends with a full stop and not with dots."""
    result = CliRunner().invoke(main, [*words, "--help"], terminal_width=80)
    assert result.exit_code == 0
    listed = result.output.split("Commands:\n")[1].splitlines()
    group = main
    for word in words:
        group = group.get_command(click.Context(group), word)
    assert [line.split()[0] for line in listed] == group.list_commands(click.Context(group))
    for line in result.output.splitlines():
        assert len(line) <= 80
        assert "..." not in line.replace("[ARGS]...", "")
    assert all(line.endswith(".") for line in listed)


def test_help_imports_nothing_but_click():
    """`turnout --help` and shell completion load no model, parser, client or table of ours."""
    code = (
        "import sys; from click.testing import CliRunner; from deploy.cli.main import main;"
        "assert not CliRunner().invoke(main, ['--help'], catch_exceptions=False).exit_code;"
        "ours = {name.split('.')[0] for name in sys.modules};"
        "print(sorted(ours & {'pydantic', 'yaml', 'orjson', 'rich', 'asyncio', 'faust', 'kafka', 'transforms'}),"
        " sorted(name for name in sys.modules if name.startswith(('streams.', 'forwarders.', 'deploy.'))"
        " and not name.startswith('deploy.cli.')))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    ours = "'deploy.cli', 'deploy.terminal', 'deploy.terminal.escaping', 'deploy.terminal.failures', 'streams.plurals'"
    assert done.stdout == f"[] [{ours}]\n"


def test_every_command_that_reads_a_folder_takes_config():
    """The option and its environment variable are the same for all of them."""
    without = {command.name for command in commands() if not any("--config" in it.opts for it in command.params)}
    assert without == {"init", "diff", "schema", "forwarder", "conformance", "simulate", "send", "monitoring"}
    for command in commands():
        for parameter in command.params:
            if "--config" in parameter.opts:
                assert (parameter.name, parameter.envvar) == ("folder", "TURNOUT_CONFIG")


@pytest.mark.parametrize("command", ["check", "test"])
def test_the_folder_may_come_from_the_environment(command: str):
    """$TURNOUT_CONFIG names the folder of `check` and `test`, as of every other command."""
    result = CliRunner(env={"TURNOUT_CONFIG": str(EXAMPLE)}).invoke(main, [command])
    assert result.exit_code == 0


def test_test_takes_only_files():
    """A folder named as an argument of `test` gives an error that names the option."""
    result = CliRunner().invoke(main, ["test", str(EXAMPLE)])
    assert result.exit_code == 2
    assert "--config" in result.output.splitlines()[-1]


@pytest.mark.parametrize("command", ["check", "up"])
def test_the_folder_may_be_an_argument(command: str, tmp_path: Path):
    """`turnout check DIR` reads this folder, also if $TURNOUT_CONFIG names another; naming two is an error."""
    (tmp_path / "turnout.yaml").write_text("partitions: many\n")
    runner = CliRunner(env={"TURNOUT_CONFIG": str(EXAMPLE)})
    result = runner.invoke(main, [command, str(tmp_path)])
    assert result.exit_code == 2
    assert f"{tmp_path}/turnout.yaml:1:13: partitions" in result.output
    result = runner.invoke(main, [command, "--config", str(EXAMPLE), str(tmp_path)])
    assert result.exit_code == 2
    assert result.output.endswith("name the folder once, as an argument or with --config\n")


def test_up_takes_the_current_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Without --config, `up` runs the current folder if it has a turnout.yaml."""
    (tmp_path / "turnout.yaml").write_text("partitions: many\n")
    monkeypatch.chdir(tmp_path)
    result = CliRunner().invoke(main, ["up"])
    assert result.exit_code == 2
    assert "turnout.yaml:1:13: partitions" in result.output


def test_bash_completes_commands(tmp_path: Path):
    """The documented line of .bashrc completes commands and options."""
    shell = shutil.which("bash")
    assert shell
    script = (
        'eval "$(_TURNOUT_COMPLETE=bash_source turnout)"; COMP_WORDS=(turnout re); COMP_CWORD=1;'
        '_turnout_completion turnout; echo "${COMPREPLY[@]}"; COMPREPLY=();'
        "COMP_WORDS=(turnout dead list --i); COMP_CWORD=3;"
        '_turnout_completion turnout; echo "${COMPREPLY[@]}"'
    )
    done = subprocess.run(
        [shell, "-c", script],
        env={**os.environ, "PATH": f"{TURNOUT.parent}:{os.environ['PATH']}"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == "record resume rejected replay\n--integration --id\n"


@contextmanager
def deaf() -> Iterator[int]:
    """A port that accepts connections and never answers."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


def run_without_kafka(command: str, bootstrap: str) -> tuple[int, str]:
    """Return exit code and standard error of a command; all but workers run in this process, which is faster."""
    ports = {f"TURNOUT_{name}": str(free_port()) for name in ("COLLECTOR__PORT", "SIMULATOR_PORT")}
    environment = {**DEMO, **ports, "TURNOUT_BROKER__BOOTSTRAP": bootstrap, "TURNOUT_EMBEDDED": "false"}
    words = command.replace("FOLDER", str(EXAMPLE)).split()
    words += [] if "FOLDER" in command else ["--config", str(EXAMPLE)]
    event = '{"type": "track", "event": "e", "userId": "u"}'
    if command not in WORKERS:
        result = CliRunner(env=environment).invoke(main, words, event)
        return result.exit_code, result.stderr
    there = {"PATH": os.environ["PATH"], "HOME": str(Path.home()), **environment}
    done = subprocess.run(
        [TURNOUT, *words], env=there, input=event, capture_output=True, text=True, check=False, timeout=120
    )
    return done.returncode, done.stderr


@pytest.mark.parametrize("command", ON_KAFKA)
def test_a_kafka_that_refuses_connections_is_named(command: str):
    """Each command ends with exit code 1, and one line with the address and the reason."""
    bootstrap = f"127.0.0.1:{free_port()}"
    code, errors = run_without_kafka(command, bootstrap)
    assert code == 1, errors
    assert errors.splitlines()[-1] == f"turnout: cannot reach Kafka at {bootstrap}: Connection refused"
    assert "Traceback" not in errors


@pytest.mark.parametrize("command", ["topics", "router", "up", "dead list", "suppress u"])
def test_a_kafka_that_does_not_answer_is_named(command: str):
    """A port that accepts connections and never answers gives exit code 1 and a line with the address."""
    with deaf() as port:
        code, errors = run_without_kafka(command, f"127.0.0.1:{port}")
    assert code == 1
    line = f"turnout: cannot reach Kafka at 127.0.0.1:{port}: it accepts connections, but does not answer within 3 s"
    assert errors.splitlines()[-1] == line


def test_a_kafka_whose_name_does_not_resolve_is_named():
    """A host name that does not resolve gives exit code 1 and a line with the address."""
    code, errors = run_without_kafka("dead list", "kafka.invalid:9092")
    assert code == 1
    assert errors.startswith("turnout: cannot reach Kafka at kafka.invalid:9092: ")


def test_every_command_on_kafka_is_tried():
    """ON_KAFKA names every command whose module reaches Kafka."""
    modules = {
        path.stem
        for path in Path("deploy/cli/commands").glob("*.py")
        if path.stem != "options"
        and any(
            word in path.read_text()
            for word in ("broker_errors(", "give_order(", "prepare(configuration)", "runtime.local")
        )
    }
    assert {command.split()[0] for command in ON_KAFKA} == modules


@pytest.mark.parametrize(
    ("words", "code"),
    [
        ("check", 0),
        ("check --config nowhere", 2),
        ("test", 0),
        ("test none.yaml", 2),
        ("explain", 2),
        ("explain ga4", 0),
        ("explain ga5", 2),
        ("explain --event bad.json", 1),
        ("explain --event none.json", 2),
        ("explain --event bad.json --source wep", 2),
        ("diff . . --events none", 2),
        ("schema nothing", 2),
        ("new integration ga4 --forwarder ga4", 1),
        ("new integration x --forwarder ga5", 2),
        ("new source web", 1),
        ("new source x --plan sho", 2),
        ("new plan Shop", 2),
        ("init .", 1),
        ("conformance ga5", 2),
        ("conformance ga4 --cases nowhere", 2),
        ("verify ga5 --event bad.json", 2),
        ("authorize file", 2),
        ("dead list --since yesterday", 2),
        ("dead show x", 2),
        ("replay --integration ga4 --from 1h --to 2h", 2),
        ("suppress", 2),
        ("send none", 2),
        ("simulate --port many", 2),
        ("nothing", 2),
    ],
)
def test_exit_codes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: str, code: int):
    """The exit code is 0 if the work was done, 1 if it failed, 2 for a usage or configuration error."""
    folder = shutil.copytree(EXAMPLE, tmp_path / "example")
    monkeypatch.chdir(folder)
    for name, value in DEMO.items():
        monkeypatch.setenv(name, value)
    Path("bad.json").write_text(json.dumps({"type": "track"}))
    result = CliRunner().invoke(main, words.split())
    assert result.exit_code == code, result.output
