"""Table of the first file with each digest, on the disk, since a million digests take a quarter of a gigabyte."""

import sqlite3

from limbeck.core.errors import UserError, one_line

CACHE = 8 * 1024  # KiB of the table that are held in memory


class FirstPaths:
    """The first path of every digest. The table is SQLite's private temporary file, which ends with this object."""

    def __init__(self) -> None:
        self._table = sqlite3.connect("", isolation_level=None)
        for statement in (
            f"PRAGMA cache_size = -{CACHE}",
            "PRAGMA journal_mode = OFF",
            "CREATE TABLE first (digest BLOB PRIMARY KEY, path BLOB) WITHOUT ROWID",
            "BEGIN",  # and never the end: nobody else reads it
        ):
            self._table.execute(statement)

    def first(self, digest: str, path: str) -> str:
        """Return the path that came first with this digest: an earlier one, or this one.

        Raises:
            UserError: there is no room for temporary files.
        """
        key, name = (text.encode("utf-8", "surrogatepass") for text in (digest, path))
        try:
            if self._table.execute("INSERT OR IGNORE INTO first VALUES (?, ?)", (key, name)).rowcount:
                return path
            ((earlier,),) = self._table.execute("SELECT path FROM first WHERE digest = ?", (key,))
        except sqlite3.OperationalError as error:
            raise UserError(
                f"the table of duplicates cannot be written to the folder for temporary files ({one_line(error)}): "
                "set SQLITE_TMPDIR to a folder with more room",
                code="no-temporary-space",
            ) from error
        found: str = earlier.decode("utf-8", "surrogatepass")
        return found
