"""The rules of one version, as routers keep them in the topic `rulesets`."""

import zlib
from base64 import b64decode, b64encode
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import orjson

from streams.records.format import RULES_VERSION, RecordError, decode_object

MAX_FILES_BYTES = 900 * 1024
"""How many bytes of data files one record has, compressed; the other files are named by their hash."""

MAX_FILE_BYTES = 16 * 1024 * 1024
"""How large a data file may be, uncompressed; larger ones are named by their hash."""


class DataFile(NamedTuple):
    """A file that an enrichment reads: its name in the source's file, its SHA-256 in hex, and its size in bytes.

    `packed` is its content, compressed by zlib; None if the record has only the hash.
    """

    name: str
    sha256: str
    size: int
    packed: bytes | None = None

    @property
    def content(self) -> bytes | None:
        """The file's content; raises RecordError if it cannot be unpacked."""
        if self.packed is None:
            return None
        unpacker = zlib.decompressobj()
        try:
            content = unpacker.decompress(self.packed, MAX_FILE_BYTES)
        except zlib.error as error:
            raise RecordError(f"the file {self.name} of recorded rules cannot be unpacked: {error}") from error
        if not unpacker.eof:
            raise RecordError(f"the file {self.name} of recorded rules is too large")
        return content


@dataclass(frozen=True, slots=True)
class RecordedRules:
    """The rules of one version. The record's key is the version.

    Args:
        release: The version of Turnout that wrote the record.
        integrations: The integrations that have an outcome for each event of this version.
        settings: The settings of turnout.yaml that decide about events.
        documents: The text of plans, sources and integrations by path, without comments, tests and settings of
            vendors.
        presets: The text of the presets that the integrations use, by name.
        files: The files that enrichments read.

    """

    release: str
    integrations: Sequence[str]
    settings: Mapping[str, Any]
    documents: Mapping[str, str]
    presets: Mapping[str, str]
    files: Sequence[DataFile] = ()

    def encode(self) -> bytes:
        """Encode the record's value."""
        return orjson.dumps(
            {
                "v": RULES_VERSION,
                "release": self.release,
                "integrations": list(self.integrations),
                "settings": self.settings,
                "documents": self.documents,
                "presets": self.presets,
                "files": [
                    {
                        "name": file.name,
                        "sha256": file.sha256,
                        "size": file.size,
                        "content": None if file.packed is None else b64encode(file.packed).decode(),
                    }
                    for file in self.files
                ],
            }
        )

    @classmethod
    def decode(cls, value: bytes | None) -> "RecordedRules":
        """Decode a record's value; raises RecordError."""
        data = decode_object(value, RULES_VERSION)
        try:
            return cls(
                str(data["release"]),
                [str(name) for name in data["integrations"]],
                dict(data["settings"]),
                {str(path): str(text) for path, text in data["documents"].items()},
                {str(name): str(text) for name, text in data["presets"].items()},
                [_file(file) for file in data["files"]],
            )
        except (LookupError, TypeError, ValueError, AttributeError) as error:
            raise RecordError(f"recorded rules have a missing or invalid field: {error}") from error


def _file(data: Mapping[str, Any]) -> DataFile:
    packed = None if data["content"] is None else b64decode(data["content"], validate=True)
    return DataFile(str(data["name"]), str(data["sha256"]), int(data["size"]), packed)


def pack_files(files: Sequence[tuple[DataFile, bytes]], room: int = MAX_FILES_BYTES) -> list[DataFile]:
    """Add the contents of files, the smallest first, as long as they take at most `room` bytes."""
    packed: list[DataFile] = []
    for file, content in sorted(files, key=lambda pair: (pair[0].size, pair[0].name)):
        compressed = zlib.compress(content, 9) if file.size <= MAX_FILE_BYTES and room > 0 else None
        if compressed is not None and len(compressed) <= room:
            room -= len(compressed)
            packed.append(file._replace(packed=compressed))
        else:
            packed.append(file)
    return packed
