"""Secrets from files, `${file:/path}`."""

import json
import os
from pathlib import Path

import pytest
from click.testing import CliRunner

from deploy.cli.main import main
from deploy.config.configuration import ConfigurationError, read_configuration

SECRET = "s3cret-of-a-file"


@pytest.fixture
def secret(tmp_path: Path) -> Path:
    return tmp_path / "secret"


@pytest.fixture
def folder(tmp_path: Path, secret: Path) -> Path:
    """A folder whose source and integration have their secrets from one file."""
    folder = tmp_path / "folder"
    for name, text in {
        "turnout.yaml": "prefix: t\n",
        "sources/web.yaml": f"source: web\nwrite_keys: ['${{file:{secret}}}']\n",
        "integrations/hook.yaml": "integration: hook\nforwarder: webhook\nrules: [{map: {user: $.userId}}]\nsettings:\n"
        f"  url: https://hook.example/\n  auth: {{type: bearer, token: '${{file:{secret}}}'}}\n",
    }.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    return folder


@pytest.mark.parametrize("content", [SECRET, f"{SECRET}\n", f"{SECRET}\r\n", f"\ufeff{SECRET}\n"])
def test_a_secret_is_the_content_of_the_file(folder: Path, secret: Path, content: str) -> None:
    """The file's text is the secret, without the line break at its end, and is not shown."""
    secret.write_bytes(content.encode())
    configuration = read_configuration(folder)
    assert configuration.sources.find(SECRET).name == "web"
    assert configuration.integrations["hook"].settings.auth.token.get_secret_value() == SECRET
    assert SECRET not in repr(configuration)
    result = CliRunner().invoke(main, ["check", "--config", str(folder)])
    assert result.exit_code == 0
    assert SECRET not in result.output


def test_a_link_is_followed(folder: Path, secret: Path) -> None:
    """Kubernetes mounts a secret as a link to a file."""
    (secret.parent / "data").write_text(SECRET)
    secret.symlink_to("data")
    assert read_configuration(folder).sources.find(SECRET).name == "web"


def test_spaces_within_a_secret_stay(folder: Path, secret: Path) -> None:
    """Only line breaks at the end are left out."""
    secret.write_text(" a b \n")
    assert read_configuration(folder).sources.find(" a b ").name == "web"


def test_a_missing_file_is_only_wanted_by_workers(folder: Path, secret: Path) -> None:
    """`check` lists a file that does not exist, and a worker ends with its place."""
    result = CliRunner().invoke(main, ["check", "--config", str(folder), "--json"])
    assert json.loads(result.output)["unset"] == [f"file:{secret}"]
    assert result.exit_code == 0
    result = CliRunner().invoke(main, ["router", "--config", str(folder)])
    place = f"{folder}/sources/web.yaml:2:14"
    assert f"{place}: the file {secret} does not exist (write the secret into it, or mount it)" in result.output
    assert result.exit_code == 2


def _make_folder(secret: Path) -> None:
    secret.mkdir()


def _make_fifo(secret: Path) -> None:
    os.mkfifo(secret)


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (_make_folder, "is a folder"),
        (_make_fifo, "is not a file"),
        (lambda secret: secret.write_text(""), "is empty"),
        (lambda secret: secret.write_text("\r\n"), "is empty"),
        (lambda secret: secret.write_bytes(b"\xff"), "is not UTF-8 text"),
        (lambda secret: secret.write_text("x" * 65_537), "is too large: 65,537 bytes"),
        (lambda secret: secret.symlink_to(secret), "cannot be read: Too many levels of symbolic links"),
    ],
)
def test_a_file_that_holds_no_secret_is_a_mistake(folder: Path, secret: Path, make, reason: str) -> None:
    """Each is refused at the reference, by `check` too."""
    make(secret)
    with pytest.raises(ConfigurationError) as caught:
        read_configuration(folder)
    first, second = map(str, caught.value.errors)
    assert first.startswith(f"{folder}/sources/web.yaml:2:14: the file {secret} {reason}")
    assert second.startswith(f"{folder}/integrations/hook.yaml:6:31: the file {secret} {reason}")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read any file")
def test_a_file_that_may_not_be_read(folder: Path, secret: Path) -> None:
    """A file of another user is a mistake that says so."""
    secret.write_text(SECRET)
    secret.chmod(0)
    with pytest.raises(ConfigurationError, match="cannot be read: Permission denied"):
        read_configuration(folder)


@pytest.mark.parametrize(
    "written", ["${file:}", "${file:secrets/x}", "${FILE:/x}", "${file /x}", "a${file:/x}", "${file:/x}b"]
)
def test_a_reference_that_is_none_is_refused(folder: Path, written: str) -> None:
    """A malformed reference is never used as a literal value."""
    path = folder / "integrations" / "hook.yaml"
    path.write_text(path.read_text().replace("https://hook.example/", f"'{written}'"))
    with pytest.raises(ConfigurationError, match=r"settings.url: `\$\{…\}` is not replaced here"):
        read_configuration(folder)
