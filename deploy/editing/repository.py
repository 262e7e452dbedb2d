"""Commit files to a configuration folder's git repository, without using its index or hooks."""

import os
import subprocess
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

TIMEOUT_SECONDS = 20.0
COMMITTER = ("Turnout console", "console@turnout.invalid")
_MERGING = ("MERGE_HEAD", "CHERRY_PICK_HEAD", "REVERT_HEAD", "rebase-merge", "rebase-apply")


class GitError(Exception):
    """A git command failed; the message is for the user."""


@dataclass(frozen=True, slots=True)
class Author:
    """The author of a commit: the user of the console."""

    user: str

    @property
    def name(self) -> str:
        """The user, without characters that git does not allow in names."""
        return "".join(it for it in self.user if it.isprintable() and it not in "<>").strip(" .,;:'\"") or "unknown"

    @property
    def email(self) -> str:
        """The user if it is an e-mail address, else an address that cannot exist."""
        name = "".join(self.name.split())
        return name if "@" in name else f"{name}@turnout.invalid"


class Repository:
    """The git repository that contains a folder.

    Args:
        root: The root of its work tree.
        folder: A folder below or at the root.

    """

    def __init__(self, root: Path, folder: Path) -> None:
        self._root = root
        self._prefix = folder.resolve().relative_to(root.resolve())

    def path(self, name: str) -> str:
        """Return the path of the folder's file within the repository."""
        return (self._prefix / name).as_posix()

    @property
    def branch(self) -> str | None:
        """The current branch; None if HEAD is detached."""
        try:
            return self._git("symbolic-ref", "--short", "-q", "HEAD").strip() or None
        except GitError:
            return None

    @property
    def head(self) -> str | None:
        """The current commit; None in a repository without commits."""
        try:
            return self._git("rev-parse", "--verify", "-q", "HEAD^{commit}").strip()
        except GitError:
            return None

    @property
    def is_merging(self) -> bool:
        """Whether a merge, rebase, cherry-pick or revert is under way."""
        return any(self._inner(name).exists() for name in _MERGING)

    @property
    def is_writable(self) -> bool:
        """Whether commits and branches can be written."""
        return all(is_writable(self._inner(name)) for name in ("objects", "refs/heads"))

    def _inner(self, name: str) -> Path:
        """Return the path of one of git's own files; linked work trees share some of them."""
        return self._root / self._git("rev-parse", "--git-path", name).strip()

    def ignores(self, name: str) -> bool:
        """Return whether git ignores the folder's file, so that it must not be committed."""
        ran = self._run("check-ignore", "-q", "--", self.path(name))
        return ran.returncode == 0

    def has_branch(self, branch: str) -> bool:
        """Return whether a branch of this name exists."""
        return self._run("show-ref", "--verify", "-q", f"refs/heads/{branch}").returncode == 0

    def write_commit(self, contents: Mapping[str, bytes], parent: str | None, message: str, author: Author) -> str:
        """Write a commit with new contents of the folder's files, and return its ID; no branch contains it yet."""
        with tempfile.TemporaryDirectory(prefix="turnout-index-") as temporary:
            index = {"GIT_INDEX_FILE": str(Path(temporary, "index"))}
            self._git("read-tree", *([parent] if parent else ["--empty"]), environment=index)
            for name, content in contents.items():
                self._git("update-index", "--add", "--cacheinfo", self._entry(name, content, parent), environment=index)
            tree = self._git("write-tree", environment=index).strip()
        return self._git(
            "-c",
            "commit.gpgSign=false",
            "commit-tree",
            tree,
            *(("-p", parent) if parent else ()),
            given=message.encode(),
            environment={
                "GIT_AUTHOR_NAME": author.name,
                "GIT_AUTHOR_EMAIL": author.email,
                "GIT_COMMITTER_NAME": COMMITTER[0],
                "GIT_COMMITTER_EMAIL": COMMITTER[1],
            },
        ).strip()

    def move_branch(self, branch: str, commit: str, before: str | None, reason: str) -> None:
        """Move a branch to a commit; raises GitError unless it was at `before`, or did not exist."""
        self._git("update-ref", "-m", reason, f"refs/heads/{branch}", commit, before or "0" * len(commit))

    def stage(self, contents: Mapping[str, bytes]) -> None:
        """Record the contents of the folder's files in the index, so that `git status` shows them as unchanged."""
        for name, content in contents.items():
            self._git("update-index", "--add", "--cacheinfo", self._entry(name, content, "HEAD"))
        self._run("update-index", "-q", "--refresh")

    def diff(self, before: str, after: str) -> str:
        """Return the difference of two commits."""
        return self._git("diff", "--no-color", "--no-ext-diff", "--no-textconv", before, after)

    def short(self, commit: str) -> str:
        """Return a commit's abbreviated ID."""
        return self._git("rev-parse", "--short", commit).strip()

    def _entry(self, name: str, content: bytes, commit: str | None) -> str:
        """Return a file's index line, with the mode from the commit."""
        path = self.path(name)
        blob = self._git("hash-object", "-w", "--stdin", given=content).strip()
        listed = self._git("ls-tree", commit, "--", path) if commit else ""
        mode = listed.split(" ", 1)[0] if listed.startswith("100") else "100644"
        return f"{mode},{blob},{path}"

    def _git(self, *arguments: str, given: bytes = b"", environment: Mapping[str, str] | None = None) -> str:
        ran = self._run(*arguments, given=given, environment=environment)
        if ran.returncode:
            said = ran.stderr.decode(errors="replace").strip().removeprefix("fatal: ").partition("\n")[0]
            raise GitError(f"git {arguments[0]}: {said or f'exit code {ran.returncode}'}")
        return ran.stdout.decode(errors="replace")

    def _run(
        self, *arguments: str, given: bytes = b"", environment: Mapping[str, str] | None = None
    ) -> "subprocess.CompletedProcess[bytes]":
        # No part of the command is from an event; names of files and branches are checked by who calls.
        kept = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
        command = ["git", "-C", str(self._root), "-c", "core.quotePath=false", *arguments]
        try:
            return subprocess.run(  # noqa: S603
                command,
                input=given,
                capture_output=True,
                check=False,
                timeout=TIMEOUT_SECONDS,
                env={**kept, "GIT_TERMINAL_PROMPT": "0", "LC_ALL": "C", **(environment or {})},
            )
        except (OSError, subprocess.SubprocessError) as error:
            raise GitError(f"git does not run: {error}") from error


def find_repository(folder: Path) -> Repository | None:
    """Return the repository that a folder belongs to; None outside of repositories."""
    for parent in (folder.resolve(), *folder.resolve().parents):
        if (parent / ".git").exists():
            return Repository(parent, folder)
    return None


def is_writable(path: Path) -> bool:
    """Return whether this process may write a file or folder."""
    return os.access(path, os.W_OK, effective_ids=os.access in os.supports_effective_ids)
