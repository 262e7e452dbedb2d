import re
import shlex
from pathlib import Path

import click
import pytest

from deploy.cli.main import main

ROOT = Path(__file__).parents[3]
PAGES = [ROOT / "README.md", *(ROOT / "deploy" / "docs").glob("*.md")]
GENERATED = {"commands.md"}


def command_lines() -> list[tuple[str, str]]:
    """Every line of a shell block that calls `turnout`, with its page."""
    return [
        (page.name, line)
        for page in PAGES
        if page.name not in GENERATED
        for block in re.findall(r"^```sh\n(.*?)^```", page.read_text(), re.DOTALL | re.MULTILINE)
        for line in block.splitlines()
        if line.startswith("turnout ")
    ]


@pytest.mark.parametrize(("page", "line"), command_lines())
def test_commands_are_there(page: str, line: str):
    """Each command that a page shows is one, and takes the options that it is shown with."""
    words = shlex.split(line.split("|", maxsplit=1)[0], comments=True)[1:]
    command: click.Command = main
    context = click.Context(main)
    while isinstance(command, click.Group):
        found = command.get_command(context, words.pop(0))
        assert found, line
        command = found
    options = {name for parameter in command.params for name in parameter.opts}
    assert {word for word in words if word.startswith("--")} <= options, line
