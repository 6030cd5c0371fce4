"""One array on the disk that is filled row by row and continued after a kill."""

import io
import os
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from limbeck.core.config import Json, to_json
from limbeck.core.disk import fsync, is_refusal, make_folder, not_readable, write_errors_as_user_error
from limbeck.core.errors import UserError, one_line
from limbeck.core.files import read_json, write_json


class ResumableArray:
    """A .npy file of rows that are appended in blocks, and a JSON manifest with the number of complete rows.

    A block counts once `commit` has synced its rows to the disk and, after that, replaced the manifest. Whatever ends
    the process, the array continues from the rows of the manifest, as long as the settings are the same.

    Args:
        path: the .npy file.
        row_shape: shape of a row.
        dtype: type of the values; may be structured.
        settings: everything that the rows are a function of, as JSON. Rows stored with other settings are discarded at
            the first `append`.
        manifest: the JSON file; `path` with the suffix .json by default.
    """

    def __init__(
        self, path: Path, row_shape: tuple[int, ...], dtype: DTypeLike, settings: Json, manifest: Path | None = None
    ) -> None:
        self.path, self.settings = path, settings
        self.manifest = manifest or path.with_suffix(".json")
        self._row_shape, self._dtype = row_shape, np.dtype(dtype)
        self._prepared = False
        self.rows = self._complete_rows()
        """Rows so far, those since the last commit included."""

    def append(self, block: NDArray[Any]) -> None:
        """Add rows [n, *row_shape]; a kill before the next `commit` may lose them."""
        if not self._prepared:
            self._prepare()
        with write_errors_as_user_error(self.path), self.path.open("r+b") as file:
            file.seek(self._end())
            file.write(np.ascontiguousarray(block, self._dtype).data)
        self.rows += len(block)

    def commit(self) -> None:
        """Sync the rows to the disk, then write their number into the manifest."""
        if not self._prepared:
            self._prepare()
        with write_errors_as_user_error(self.path):
            with self.path.open("r+b") as file:
                file.write(self._header(self.rows))
            fsync(self.path)
        self._write_manifest()

    def truncate(self, rows: int) -> None:
        """Discard all rows but the first `rows`."""
        self.rows = min(rows, self.rows)
        self._prepared = False
        self.commit()

    def read(self) -> NDArray[Any]:
        """Return the rows [rows, *row_shape] as a read-only memory map.

        Raises:
            UserError: the file contradicts the manifest.
        """
        shape = (self.rows, *self._row_shape)
        if 0 in shape:
            return np.empty(shape, self._dtype)
        try:
            rows: NDArray[Any] = np.lib.format.open_memmap(self.path, mode="r")
        except Exception as error:  # numpy evaluates the header as a literal, and a broken one raises a dozen kinds
            raise (not_readable(self.path, error) if is_refusal(error) else self._damaged(one_line(error))) from error
        if rows.shape != shape or rows.dtype != self._dtype:
            raise self._damaged(f"it holds {rows.dtype} {rows.shape} instead of {self._dtype} {shape}")
        return rows

    def _damaged(self, reason: str) -> UserError:
        return UserError(
            f"'{self.path}' is damaged ({reason}): delete it and '{self.manifest}', then repeat the command",
            code="damaged-array",
        )

    @property
    def _row_bytes(self) -> int:
        return int(np.prod(self._row_shape, dtype=np.int64)) * self._dtype.itemsize

    def _complete_rows(self) -> int:
        stored = read_array_manifest(self.manifest)
        if stored is None or stored["settings"] != to_json(self.settings) or not self.path.is_file():
            return 0
        on_disk = (self.path.stat().st_size - len(self._header(0))) // self._row_bytes
        return max(0, min(stored["rows"], on_disk))

    def _prepare(self) -> None:
        """Cut the file off behind the last complete row; before that, make the manifest count no more than those."""
        make_folder(self.path.parent)
        self._write_manifest()
        with write_errors_as_user_error(self.path):
            if self.rows == 0:
                self.path.write_bytes(self._header(0))
            os.truncate(self.path, self._end())
        self._prepared = True

    def _end(self) -> int:
        """Return the bytes of the header and of all rows so far."""
        return len(self._header(0)) + self.rows * self._row_bytes

    def _write_manifest(self) -> None:
        write_json(self.manifest, {"settings": to_json(self.settings), "rows": self.rows})

    def _header(self, rows: int) -> bytes:
        """Return the header of the .npy file; numpy pads it, so that it is as long for any number of rows."""
        header = io.BytesIO()
        description = np.lib.format.dtype_to_descr(self._dtype)
        fields = {"descr": description, "fortran_order": False, "shape": (rows, *self._row_shape)}
        np.lib.format.write_array_header_1_0(header, fields)
        return header.getvalue()


def read_array_manifest(path: Path) -> dict[str, Any] | None:
    """Return the keys `settings` and `rows` of a manifest, None where there is no file.

    Raises:
        UserError: the file is not a manifest.
    """
    if not path.is_file():
        return None
    found = read_json(path, "delete it and the array beside it, then repeat the command")
    if not isinstance(found, dict) or not isinstance(found.get("rows"), int) or "settings" not in found:
        raise UserError(
            f"'{path}' is not the manifest of an array: delete it and the array beside it, then repeat the command",
            code="not-a-manifest",
        )
    return found
