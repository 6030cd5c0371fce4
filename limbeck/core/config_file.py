"""Defaults of a run from a file or a recipe, with the keys of a run's config.json: `--config FILE`, `--recipe NAME`."""

import logging
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Self, TypeVar

from limbeck.core.config import Json, convert, from_json, read_mapping, to_json
from limbeck.core.errors import UserError, did_you_mean

logger = logging.getLogger(__name__)
T = TypeVar("T")


class ConfigFile:
    """Sections of config.json that lie between the defaults and the flags.

    Args:
        name: of the file or the recipe, for messages.
        data: its content.
    """

    def __init__(self, name: str = "", data: Mapping[str, Json] | None = None) -> None:
        self.name, self._data = name, dict(data or {})

    @classmethod
    def read(cls, path: str, keys: Collection[str]) -> Self:
        """Return the content of a YAML or JSON file.

        Raises:
            UserError: it cannot be read, is no mapping, or has a key that is not among `keys`.
        """
        data = read_mapping(Path(path))
        for key in data:
            if key not in keys:
                raise UserError(
                    f"'{path}' has an unknown key '{key}'{did_you_mean(key, keys)}: the keys are "
                    f"{', '.join(sorted(keys))}, and --print-config prints what is in each",
                    code="unknown-key",
                )
        return cls(path, data)

    def __contains__(self, key: str) -> bool:
        """Return whether there is a section or a value under `key`."""
        return key in self._data

    def text(self, key: str) -> str | None:
        """Return the string under `key`, or None where it is absent or empty."""
        value = self._data.get(key)
        if value is not None and not isinstance(value, str):
            raise UserError(f"'{self.name}': {key} is {value!r}, which is not a string", code="wrong-type")
        return value or None

    def name_in(self, *keys: str) -> str | None:
        """Return the name in the section at `keys`, such as that of `method`, or of `host` in `method`."""
        section: Json = self._data
        for key in (*keys, "name"):
            section = section.get(key) if isinstance(section, dict) else None
        return section if isinstance(section, str) else None

    def texts(self, key: str) -> tuple[str, ...]:
        """Return the strings under `key`; none where it is absent."""
        found: tuple[str, ...] = convert(tuple[str, ...], self._data.get(key) or [], f"'{self.name}': {key}")
        return found

    def count(self, key: str) -> int | None:
        """Return the number under `key`, or None where it is absent."""
        found: int | None = convert(int | None, self._data.get(key), f"'{self.name}': {key}")
        return found

    def section(self, key: str, kind: type[T]) -> T | None:
        """Return the configuration `kind` under `key`, with its defaults for what is left out; None without the key."""
        section = self._data.get(key)
        return None if section is None else from_json(kind, section, f"'{self.name}': {key}")

    def over(self, default: T, key: str, *, named: bool = False) -> T:
        """Return the configuration `default` with its values replaced by those of the section `key`.

        With `named`, a section that has another name than `default`, which a flag has given then, does not apply.
        """
        section = self._data.get(key)
        if section is None:
            return default
        merged = self._merge(to_json(default), section, key if named else "")
        return from_json(type(default), merged, f"'{self.name}': {key}")

    def _merge(self, base: Json, section: Json, named: str) -> Json:
        if not isinstance(base, dict) or not isinstance(section, dict):
            return section
        if named and section.get("name", base.get("name")) != base.get("name"):
            logger.info("'%s': %s is about %s and does not apply", self.name, named, section["name"])
            return base
        return base | {
            key: self._merge(base.get(key), value, f"{named}.{key}" if named else "") for key, value in section.items()
        }
