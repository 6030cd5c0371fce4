"""Files at addresses such as `s3://bucket/key`, read by range with fsspec and the user's plug-in for them."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from hashlib import blake2b
from typing import IO, Any, NamedTuple

from limbeck.core.errors import UserError, one_line

ADDRESS = re.compile(r"[a-z][a-z0-9+.-]+://")
VERSIONS = ("ETag", "etag", "md5Hash", "LastModified", "last_modified", "mtime", "updated", "created")
"""Names by which file systems call a version of a file's content, best first."""


class AddressState(NamedTuple):
    """Size of a file at an address, and a number that changes when it does."""

    bytes: int
    version: int


@dataclass(frozen=True)
class Address:
    """A file at an address; it has of a `Path` what sources need."""

    url: str
    path: str
    """Within its file system."""

    @property
    def name(self) -> str:
        """The last part."""
        return self.path.rstrip("/").rpartition("/")[2]

    def __str__(self) -> str:
        return self.url

    def open(self, mode: str = "rb") -> IO[bytes]:
        """Open the file for reading; what is read is fetched by range."""
        with address_errors(self.url):
            found: IO[bytes] = file_system(self.url).open(self.path, mode)
            return found

    def state(self) -> AddressState:
        """Return size and version; UserError where the file cannot be reached."""
        with address_errors(self.url):
            return state_of(file_system(self.url).info(self.path))


def is_address(value: Any) -> bool:
    """Return whether a value is a string such as `s3://bucket/key`."""
    return isinstance(value, str) and ADDRESS.match(value) is not None


def file_system(url: str) -> Any:
    """Return the file system of an address; UserError where fsspec, or what it needs for that, is not installed."""
    with address_errors(url):
        import fsspec

        return fsspec.core.url_to_fs(url)[0]


def state_of(info: dict[str, Any]) -> AddressState:
    """Return size and version of a file, from the metadata of its file system."""
    version = next((str(info[name]) for name in VERSIONS if info.get(name) is not None), "")
    return AddressState(int(info.get("size") or 0), int.from_bytes(blake2b(version.encode(), digest_size=7).digest()))


@contextmanager
def address_errors(url: str) -> Iterator[None]:
    """Turn whatever a file system raises into a UserError that names the address."""
    try:
        yield
    except UserError:
        raise
    except Exception as error:  # plug-ins raise errors of their own libraries
        if isinstance(error, FileNotFoundError) and error.__cause__ is None:
            raise UserError(f"there is nothing at '{url}': give another address", code="source-missing") from error
        reason = one_line(error.__cause__ if isinstance(error, FileNotFoundError) and error.__cause__ else error)
        raise UserError(
            f"the address '{url}' cannot be read ({reason:.200}): check its name, the network, your rights "
            "and the plug-in of fsspec for it",
            code="address-failed",
        ) from error
