"""Save changed files: live in the folder that workers read, or as a proposal on a new branch."""

import difflib
import fcntl
import os
import re
import secrets
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from deploy.config.models.console import SaveMode
from deploy.editing.config_files import ConfigFiles, OpenedFile
from deploy.editing.drafts import check_drafts
from deploy.editing.repository import Author, GitError, Repository, find_repository, is_writable
from transforms import RuleError

_BRANCH = re.compile(r"[a-z0-9][a-z0-9/_-]{0,80}")


@dataclass(frozen=True, slots=True)
class Change:
    """A new text for a file, and the digest that the file had when it was opened; empty for a new file."""

    name: str
    text: str
    opened: str


@dataclass(frozen=True, slots=True)
class Saved:
    """A save: the difference, and its commit and branch if the folder is in git.

    `note` is a message for the user, such as why nothing was committed.
    """

    mode: SaveMode
    diff: str
    commit: str | None = None
    branch: str | None = None
    note: str | None = None


class SaveError(Exception):
    """The files were not saved; the message has the reason and what to do."""


class StaleError(SaveError):
    """A file changed since it was opened; `now` is its current state."""

    def __init__(self, now: OpenedFile) -> None:
        super().__init__(f"{now.name} changed since you opened it. Nothing was overwritten.")
        self.now = now


class BrokenError(SaveError):
    """The folder would have errors that it does not have now."""

    def __init__(self, errors: Sequence[RuleError]) -> None:
        super().__init__("Not saved, because `turnout check` finds errors.")
        self.errors = errors


class ReadOnlyError(SaveError):
    """The folder cannot be written; `patch` has the change for `git apply` or `patch -p1`."""

    def __init__(self, message: str, patch: str) -> None:
        super().__init__(message)
        self.patch = patch


@dataclass(frozen=True, slots=True)
class SavePlan:
    """The effect of a save in this folder, shown beside the button.

    `obstacle` is why a save is not possible, with the hint that a patch can be downloaded instead.
    """

    mode: SaveMode
    branch: str | None
    obstacle: str | None

    def data(self) -> dict[str, str | None]:
        """Return JSON data."""
        return {"mode": str(self.mode), "branch": self.branch, "obstacle": self.obstacle}


class Saver:
    """Saves changes of a configuration folder. Blocking.

    Args:
        folder: The configuration folder.

    """

    def __init__(self, folder: Path) -> None:
        self._folder, self._files = folder, ConfigFiles(folder)

    def plan(self, mode: SaveMode, name: str) -> SavePlan:
        """Return the effect of saving a file in a mode."""
        repository, branch = find_repository(self._folder), None
        if mode is SaveMode.PROPOSAL:
            return SavePlan(mode, None, self._proposal_obstacle(repository))
        obstacle = self._write_obstacle(name)
        if repository and not obstacle:
            try:
                branch, obstacle = repository.branch, self._commit_obstacle(repository, name)
            except GitError as error:
                obstacle = _sentence(error)
        return SavePlan(mode, branch, obstacle)

    def save_live(self, changes: Sequence[Change], author: Author, message: str) -> Saved:
        """Write files, which workers then reload, and commit them on the current branch; raises SaveError.

        Either all files are written or none.
        """
        with self._locked():
            contents = self._checked(changes)
            for change in changes:
                if obstacle := self._write_obstacle(change.name):
                    raise ReadOnlyError(obstacle, self.patch(changes))
            repository = find_repository(self._folder)
            committed = self._committed(repository, contents)
            before = {change.name: self._bytes(change.name) for change in changes}
            patch = self.patch(changes)
            try:
                commit, branch, head = None, None, None
                if repository and committed:
                    branch, head = repository.branch, repository.head
                    commit = repository.write_commit(committed, head, message, author)
                self._write(contents)
                if repository and commit and branch:
                    repository.move_branch(branch, commit, head, "commit: console")
            except OSError as error:
                raise ReadOnlyError(f"The folder cannot be written: {error.strerror}.", patch) from error
            except GitError as error:
                self._write(before)
                raise SaveError(f"Not saved. {_sentence(error)}") from error
            if not (repository and commit):
                return Saved(SaveMode.LIVE, patch, note="Not committed, because git does not keep these files.")
            note = None
            try:
                repository.stage(committed)
            except GitError as error:
                note = f"Committed, but the index is as before: {error}"
            return Saved(SaveMode.LIVE, patch, repository.short(commit), branch, note)

    def propose(self, changes: Sequence[Change], author: Author, message: str, branch: str | None = None) -> Saved:
        """Commit files on a new branch, without changing the work tree, the index or other branches.

        Args:
            changes: The changed files.
            author: Who changes them.
            message: The message of the commit.
            branch: The name of the branch; by default derived from the first file's name.

        Raises:
            SaveError: The changes were not saved.

        """
        with self._locked():
            contents = self._checked(changes)
            repository = find_repository(self._folder)
            obstacle = self._proposal_obstacle(repository)
            if repository is None or obstacle:
                raise ReadOnlyError(obstacle or _NO_REPOSITORY, self.patch(changes))
            name = branch or f"console/{Path(changes[0].name).stem}-{secrets.token_hex(3)}"
            if not _BRANCH.fullmatch(name):
                raise SaveError("A branch is named with a to z, 0 to 9, `-`, `_` and `/`.")
            try:
                if repository.has_branch(name):
                    raise SaveError(f"There is a branch {name} already. Choose another name.")
                head = repository.head
                assert head is not None
                commit = repository.write_commit(contents, head, message, author)
                repository.move_branch(name, commit, None, "commit: console")
                diff = repository.diff(head, commit)
                return Saved(SaveMode.PROPOSAL, diff, repository.short(commit), name)
            except GitError as error:
                raise SaveError(f"Not saved. {_sentence(error)}") from error

    def patch(self, changes: Sequence[Change]) -> str:
        """Return the changes for `git apply` in the repository's root; without git, for `patch -p1` in the folder."""
        repository = find_repository(self._folder)
        return "".join(self._patch(change, repository) for change in changes)

    def _patch(self, change: Change, repository: Repository | None) -> str:
        path = repository.path(change.name) if repository else change.name
        is_new = self._bytes(change.name) is None
        before = (self._bytes(change.name) or b"").decode("utf-8", "surrogateescape")
        after = self._files.encode(change.name, change.text).decode("utf-8", "surrogateescape")
        lines = difflib.unified_diff(
            before.splitlines(keepends=True),
            after.splitlines(keepends=True),
            "/dev/null" if is_new else f"a/{path}",
            f"b/{path}",
        )
        return "".join(line if line.endswith("\n") else f"{line}\n\\ No newline at end of file\n" for line in lines)

    def _checked(self, changes: Sequence[Change]) -> dict[str, bytes]:
        """Return the contents to write; raises SaveError if a file changed on disk, or if there are new errors."""
        for change in changes:
            now = self._files.open(change.name, new=True)
            if now.digest != change.opened:
                raise StaleError(now)
        drafts = {self._files.path(it.name, new=True): it.text for it in changes}
        errors = check_drafts(self._folder, drafts).errors
        if errors:
            known = {(it.path, it.message) for it in check_drafts(self._folder, {}).errors}
            own = {str(path) for path in drafts}
            if new := [it for it in errors if it.path in own or (it.path, it.message) not in known]:
                raise BrokenError(new)
        return {change.name: self._files.encode(change.name, change.text) for change in changes}

    def _committed(self, repository: Repository | None, contents: Mapping[str, bytes]) -> dict[str, bytes]:
        """Return the contents to commit; raises SaveError if nothing can be committed now."""
        if repository is None:
            return {}
        try:
            kept = {name: content for name, content in contents.items() if not repository.ignores(name)}
            obstacle = self._commit_obstacle(repository, *kept)
        except GitError as error:
            raise SaveError(f"Not saved. {_sentence(error)}") from error
        if kept and obstacle:
            raise SaveError(obstacle)
        return kept

    def _commit_obstacle(self, repository: Repository, *names: str) -> str | None:
        if all(repository.ignores(name) for name in names):
            return None
        if repository.branch is None:
            return (
                "The repository is not on a branch (detached HEAD), so that a commit would get lost. Save a proposal."
            )
        if repository.is_merging:
            return "A merge or rebase is under way in the repository. Finish it first."
        return None

    def _proposal_obstacle(self, repository: Repository | None) -> str | None:
        if repository is None:
            return _NO_REPOSITORY
        try:
            if repository.head is None:
                return "The repository has no commit yet, which a branch could begin at."
            if not repository.is_writable:
                return "The repository cannot be written. Download a patch."
        except GitError as error:
            return _sentence(error)
        return None

    def _write_obstacle(self, name: str) -> str | None:
        path = self._files.path(name, new=True)
        if path.is_symlink() or path.parent.is_symlink():
            return f"{name} is a symbolic link, as in a mounted ConfigMap. Download a patch."
        place = path.parent if path.parent.exists() else self._folder
        if not is_writable(place):
            return "The folder is read-only. Download a patch."
        return None

    def _bytes(self, name: str) -> bytes | None:
        path = self._files.path(name, new=True)
        return path.read_bytes() if path.exists() else None

    def _write(self, contents: Mapping[str, bytes | None]) -> None:
        """Write files, each atomically, or remove them; if one fails, restore those before it."""
        before: dict[str, bytes | None] = {}
        try:
            for name, content in contents.items():
                now = self._bytes(name)
                _write_file(self._files.path(name, new=True), content)
                before[name] = now
        except OSError:
            for name, content in before.items():
                _write_file(self._files.path(name, new=True), content)
            raise

    @contextmanager
    def _locked(self) -> Iterator[None]:
        """Lock the folder, so that one process at a time saves in it."""
        descriptor = os.open(self._folder, os.O_RDONLY)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield
        finally:
            os.close(descriptor)


_NO_REPOSITORY = "The folder is in no git repository. Download a patch."


def _write_file(path: Path, content: bytes | None) -> None:
    """Write a file so that a reader sees its old or its new content, or remove it."""
    if content is None:
        path.unlink(missing_ok=True)
        return
    path.parent.mkdir(exist_ok=True)
    mode = path.stat().st_mode & 0o777 if path.exists() else 0o644
    descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".tmp")
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        Path(temporary).chmod(mode)
        Path(temporary).replace(path)
    except OSError:
        Path(temporary).unlink(missing_ok=True)
        raise


def _sentence(error: GitError) -> str:
    text = str(error)
    return f"{text[:1].upper()}{text[1:]}."
