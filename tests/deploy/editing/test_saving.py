"""Files are saved live or as a proposal, with the real git."""

import os
import shutil
import subprocess
import tempfile
from pathlib import Path

import pytest

from deploy.config.configuration import read_configuration
from deploy.config.models.console import SaveMode
from deploy.editing.config_files import ConfigFiles, UnknownFileError
from deploy.editing.repository import Author
from deploy.editing.saving import BrokenError, Change, ReadOnlyError, SaveError, Saver, StaleError

EXAMPLE = Path("deploy/example").resolve()
GA4 = "integrations/ga4.yaml"
ADA = Author("ada@shop.example")
NOBODY = 65534


def git(folder, *arguments):
    identity = ("-c", "user.name=Grace", "-c", "user.email=grace@shop.example")
    ran = subprocess.run(["git", "-C", folder, *identity, *arguments], check=True, capture_output=True, text=True)
    return ran.stdout.strip()


@pytest.fixture
def plain(tmp_path):
    """A copy of the example in no repository."""
    return Path(shutil.copytree(EXAMPLE, tmp_path / "shop" / "turnout"))


@pytest.fixture
def tracked(plain):
    """The same, below the root of a repository with one commit on `main`."""
    root = plain.parent
    (root / "README.md").write_text("The shop.\n")
    git(root, "init", "-q", "-b", "main")
    git(root, "add", ".")
    git(root, "commit", "-q", "-m", "Begin")
    return plain


def change(folder, name=GA4, old="G-EXAMPLE123", new="G-OTHER"):
    """Return a change of one value, as an editor that has opened the file now would send it."""
    opened = ConfigFiles(folder).open(name)
    assert old in opened.text
    return Change(name, opened.text.replace(old, new), opened.digest)


@pytest.fixture
def as_nobody():
    """Return a function that makes folders read-only for this process, also if it runs as root."""
    closed = []

    def close(*folders):
        for folder in folders:
            for path in [folder, *folder.rglob("*")]:
                closed.append((path, path.stat().st_mode))
                path.chmod(0o555 if path.is_dir() else 0o444)
        if os.geteuid() == 0:
            os.seteuid(NOBODY)

    yield close
    if os.getuid() == 0:
        os.seteuid(0)
    for path, mode in closed:
        path.chmod(mode)


@pytest.fixture
def reachable(tracked):
    """The repository in a folder that any user may enter, unlike pytest's."""
    root = Path(tempfile.mkdtemp(prefix="turnout-test-"))
    root.chmod(0o755)
    moved = Path(shutil.move(tracked.parent, root / "shop")) / "turnout"
    yield moved
    shutil.rmtree(root)


def test_live_writes_the_file_and_commits_it_below_the_root(tracked):
    """A live save is written, read by workers, and committed with the user as its author and nothing else in it."""
    (tracked.parent / "README.md").write_text("Somebody is still writing this.\n")
    git(tracked, "add", "../README.md")
    saved = Saver(tracked).save_live([change(tracked)], ADA, "Send to the other property")
    assert "measurement_id: G-OTHER" in (tracked / GA4).read_text()
    assert read_configuration(tracked)
    assert (saved.branch, saved.commit) == ("main", git(tracked, "rev-parse", "--short", "main"))
    assert git(tracked, "show", "--numstat", "--format=%an <%ae>: %s", "main").split("\n\n") == [
        "ada@shop.example <ada@shop.example>: Send to the other property",
        f"1\t1\tturnout/{GA4}",
    ]
    assert "-  measurement_id: G-EXAMPLE123\n+  measurement_id: G-OTHER\n" in saved.diff
    assert git(tracked, "status", "--porcelain") == "M  README.md"


def test_live_without_a_repository_only_writes(plain):
    """Without a repository the file is written, and the result says that there is no commit."""
    saved = Saver(plain).save_live([change(plain)], ADA, "Change")
    assert "G-OTHER" in (plain / GA4).read_text()
    assert (saved.commit, saved.branch) == (None, None)
    assert "Not committed" in saved.note


def test_live_does_not_commit_ignored_files(tracked):
    """A folder that git ignores is not committed."""
    (tracked.parent / ".gitignore").write_text("turnout/\n")
    git(tracked, "rm", "-rq", "--cached", ".")
    git(tracked, "commit", "-qm", "Ignore it")
    assert Saver(tracked).save_live([change(tracked)], ADA, "Change").commit is None


def test_a_new_file_is_saved(tracked):
    """A new file is written and committed; an existing one cannot be taken for new."""
    text = (tracked / GA4).read_text().replace("integration: ga4", "integration: ga4-new")
    new = Change("integrations/ga4-new.yaml", text, "")
    Saver(tracked).save_live([new], ADA, "Add it")
    assert git(tracked, "show", "main:turnout/integrations/ga4-new.yaml") == text.strip()
    with pytest.raises(StaleError):
        Saver(tracked).save_live([new], ADA, "Add it")


def test_two_editors_at_once(tracked):
    """The second of two editors is refused with the text of the first, which stays."""
    first, second = change(tracked, new="G-FIRST"), change(tracked, new="G-SECOND")
    Saver(tracked).save_live([first], ADA, "First")
    with pytest.raises(StaleError) as refused:
        Saver(tracked).save_live([second], Author("Bob"), "Second")
    assert refused.value.now.text == first.text == (tracked / GA4).read_text()
    with pytest.raises(StaleError):
        Saver(tracked).propose([second], Author("Bob"), "Second")
    assert git(tracked, "log", "--format=%s") == "First\nBegin"


def test_a_broken_draft_is_refused(tracked):
    """A draft with an error is not written; the refusal has the error with its line."""
    draft = change(tracked, old="drop: true", new="dorp: true")
    for save in (Saver(tracked).save_live, Saver(tracked).propose):
        with pytest.raises(BrokenError) as refused:
            save([draft], ADA, "Break it")
        [error] = refused.value.errors
        assert (error.line, Path(error.path).name) == (17, "ga4.yaml")
    assert git(tracked, "status", "--porcelain") == ""


def test_a_broken_file_can_be_repaired(tracked):
    """A broken file can be opened and repaired, even if another file is broken."""
    (tracked / GA4).write_bytes((tracked / GA4).read_bytes().replace(b"drop: true", b"drop: [true"))
    (tracked / "sources/server.yaml").write_text("source: [")
    saved = Saver(tracked).save_live([change(tracked, old="drop: [true", new="drop: true")], ADA, "Repair")
    assert saved.commit
    assert git(tracked, "diff", "--name-only", "HEAD~", "HEAD") == ""
    assert "drop: true" in (tracked / GA4).read_text()


def test_live_on_a_detached_head_is_refused(tracked):
    """On a detached HEAD a commit would get lost, so a live save is refused; a proposal is possible."""
    git(tracked, "checkout", "-q", "--detach")
    with pytest.raises(SaveError, match="detached HEAD"):
        Saver(tracked).save_live([change(tracked)], ADA, "Change")
    assert "G-OTHER" not in (tracked / GA4).read_text()
    assert "detached HEAD" in Saver(tracked).plan(SaveMode.LIVE, GA4).obstacle
    saved = Saver(tracked).propose([change(tracked)], ADA, "Change")
    assert git(tracked, "log", "--format=%s", saved.branch) == "Change\nBegin"


def test_live_during_a_merge_is_refused(tracked):
    """A save does not become part of a merge that somebody is making."""
    git(tracked, "checkout", "-qb", "other")
    git(tracked, "commit", "-q", "--allow-empty", "-m", "Other")
    git(tracked, "checkout", "-q", "main")
    git(tracked, "merge", "-q", "--no-ff", "--no-commit", "other")
    with pytest.raises(SaveError, match="merge or rebase"):
        Saver(tracked).save_live([change(tracked)], ADA, "Change")


def test_a_proposal_touches_neither_work_tree_nor_index(tracked):
    """A proposal is a commit on a new branch; files, index and the current branch stay as they are."""
    (tracked.parent / "README.md").write_text("Somebody is still writing this.\n")
    git(tracked, "add", "../README.md")
    before = git(tracked, "status", "--porcelain=v2", "--branch"), (tracked / GA4).read_bytes()
    saved = Saver(tracked).propose([change(tracked)], ADA, "Send to the other property", "console/ga4")
    assert (git(tracked, "status", "--porcelain=v2", "--branch"), (tracked / GA4).read_bytes()) == before
    assert saved.branch == "console/ga4"
    assert git(tracked, "log", "--format=%an: %s", "main..console/ga4") == (
        "ada@shop.example: Send to the other property"
    )
    assert git(tracked, "diff", "--numstat", "main", "console/ga4") == f"1\t1\tturnout/{GA4}"
    assert saved.diff.strip() == git(tracked, "diff", "main", "console/ga4")
    with pytest.raises(SaveError, match="already"):
        Saver(tracked).propose([change(tracked)], ADA, "Again", "console/ga4")


def test_a_proposal_needs_a_repository(plain):
    """Without a repository, a proposal is refused with a patch."""
    with pytest.raises(ReadOnlyError, match="no git repository") as refused:
        Saver(plain).propose([change(plain)], ADA, "Change")
    assert f"--- a/{GA4}\n+++ b/{GA4}\n" in refused.value.patch


@pytest.mark.parametrize("branch", ["../main", "-x", "a b", "HEAD^", ""])
def test_strange_names_of_branches_are_refused(tracked, branch):
    """A branch's name cannot be a path or an option of git."""
    if branch:
        with pytest.raises(SaveError, match="named with"):
            Saver(tracked).propose([change(tracked)], ADA, "Change", branch)
    else:
        assert Saver(tracked).propose([change(tracked)], ADA, "Change", branch).branch.startswith("console/ga4-")


def test_a_read_only_folder_gives_a_patch(reachable, as_nobody):
    """A read-only folder is refused clearly, and its patch can be applied elsewhere with git."""
    clone = reachable.parent.parent / "clone"
    git(reachable, "clone", "-q", reachable.parent, clone)
    draft = change(reachable)
    as_nobody(reachable.parent)
    assert "read-only" in Saver(reachable).plan(SaveMode.LIVE, GA4).obstacle
    with pytest.raises(ReadOnlyError, match="read-only") as refused:
        Saver(reachable).save_live([draft], ADA, "Change")
    with pytest.raises(ReadOnlyError):
        Saver(reachable).propose([draft], ADA, "Change")
    if os.getuid() == 0:
        os.seteuid(0)
    (clone / "change.patch").write_text(refused.value.patch)
    git(clone, "apply", "change.patch")
    assert git(clone, "diff", "--numstat") == f"1\t1\tturnout/{GA4}"


def test_a_mounted_file_is_not_replaced(plain):
    """A symbolic link, as of a mounted ConfigMap, is not replaced by a file."""
    target = plain.parent / "data.yaml"
    (plain / GA4).rename(target)
    (plain / GA4).symlink_to(target)
    with pytest.raises(ReadOnlyError, match="symbolic link"):
        Saver(plain).save_live([change(plain)], ADA, "Change")


def test_ends_of_lines_survive(plain):
    """A file with carriage returns and a byte order mark keeps them."""
    before = b"\xef\xbb\xbf" + (plain / GA4).read_bytes().replace(b"\n", b"\r\n")
    (plain / GA4).write_bytes(before)
    Saver(plain).save_live([change(plain)], ADA, "Change")
    assert (plain / GA4).read_bytes() == before.replace(b"G-EXAMPLE123", b"G-OTHER")


@pytest.mark.parametrize(
    "name", ["../turnout/integrations/ga4.yaml", "integrations/../turnout.yaml", "turnout.yaml", "/etc/passwd",
             "integrations/none.yaml", "integrations", "", "integrations/.ga4.yaml"]
)  # fmt: skip
def test_names_come_from_the_folders_list(plain, name):
    """No other file can be opened, written or named."""
    files = ConfigFiles(plain)
    with pytest.raises(UnknownFileError):
        files.open(name)
    with pytest.raises(UnknownFileError):
        Saver(plain).save_live([Change(name, "x", "")], ADA, "Change") if name != "integrations/none.yaml" else (
            files.path(name)
        )


def test_names_of_authors_cannot_forge_a_commit(tracked):
    """A user's name with line breaks and brackets stays one name."""
    Saver(tracked).save_live([change(tracked)], Author("Eve <root@x>\nauthor Mallory"), "Change")
    assert git(tracked, "log", "-1", "--format=%an|%ae") == ("Eve root@xauthor Mallory|Everoot@xauthorMallory")
