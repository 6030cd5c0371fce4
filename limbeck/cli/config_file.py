"""`--config FILE`: defaults of a command from a YAML or JSON file with the keys of a run's config.json."""

import logging
from collections.abc import Collection
from pathlib import Path
from typing import TypeVar

from limbeck.core.config import Json, convert, from_json, read_mapping, to_json
from limbeck.core.errors import UserError, did_you_mean

logger = logging.getLogger(__name__)
T = TypeVar("T")


class ConfigFile:
    """The content of a configuration file; empty where `path` is None."""

    def __init__(self, path: str | None, keys: Collection[str]) -> None:
        """Read the file.

        Raises:
            UserError: it cannot be read, is no mapping, or has a key that is not among `keys`.
        """
        self.path = path
        self._data = {} if path is None else read_mapping(Path(path))
        for key in self._data:
            if key not in keys:
                raise UserError(f"'{path}' has an unknown key '{key}'{did_you_mean(key, keys)}", code="unknown-key")

    def text(self, key: str) -> str | None:
        """Return the string under `key`, or None where it is absent or empty."""
        value = self._data.get(key)
        if value is not None and not isinstance(value, str):
            raise UserError(f"'{self.path}': {key} is {value!r}, which is not a string", code="wrong-type")
        return value or None

    def name(self, *keys: str) -> str | None:
        """Return the name in the section at `keys`, such as that of `method`, or of `host` in `method`."""
        section: Json = self._data
        for key in (*keys, "name"):
            section = section.get(key) if isinstance(section, dict) else None
        return section if isinstance(section, str) else None

    def texts(self, key: str) -> tuple[str, ...]:
        """Return the strings under `key`; none where it is absent."""
        found: tuple[str, ...] = convert(tuple[str, ...], self._data.get(key) or [], f"'{self.path}': {key}")
        return found

    def over(self, default: T, key: str, *, named: bool = False) -> T:
        """Return the configuration `default` with its values replaced by those of the section `key`.

        With `named`, a section that has another name than `default`, which a flag has given then, does not apply.
        """
        section = self._data.get(key)
        if section is None:
            return default
        merged = self._merge(to_json(default), section, key if named else "")
        return from_json(type(default), merged, f"'{self.path}': {key}")

    def _merge(self, base: Json, section: Json, named: str) -> Json:
        if not isinstance(base, dict) or not isinstance(section, dict):
            return section
        if named and section.get("name", base.get("name")) != base.get("name"):
            logger.info("'%s': %s is about %s and does not apply", self.path, named, section["name"])
            return base
        return base | {
            key: self._merge(base.get(key), value, f"{named}.{key}" if named else "") for key, value in section.items()
        }
