"""Data sets of the Hugging Face hub."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from limbeck.core.errors import UserError, one_line
from limbeck.core.packages import require
from limbeck.data.fingerprint import fingerprint
from limbeck.data.sources.base import ImageSource, SourceType
from limbeck.data.sources.parquet import BATCH, table_source

HUB_NAME = re.compile(r"[\w-][\w.-]*/[\w-][\w.-]*(:[\w\[\]%:+-]+)?")


def is_hub_name(value: Any) -> bool:
    """Return whether a string is 'owner/name' or 'owner/name:split', and not a misspelled path in a folder 'owner'."""
    return isinstance(value, str) and HUB_NAME.fullmatch(value) is not None and not Path(value).parent.is_dir()


def open_hub(name: str) -> ImageSource:
    """Open 'owner/name' or 'owner/name:split' (default: train), downloaded to the cache of `datasets`."""
    require("hub", "datasets", purpose=f"the Hugging Face data set '{name}'")
    import datasets
    from huggingface_hub.constants import HF_HUB_CACHE

    repository, _, split = name.partition(":")
    try:
        table = datasets.load_dataset(repository, split=split or "train")
    except Exception as error:  # not found, offline, gated, unknown split, a script: `datasets` raises many kinds
        raise UserError(
            f"'{name}' is neither a path nor a data set that the Hugging Face hub provides: {one_line(error)}",
            code="hub-failed",
        ) from error

    def batches(columns: Sequence[str]) -> Iterator[tuple[str, Any]]:
        chosen = table.select_columns(list(columns)).with_format("arrow")
        return ((name, batch) for batch in chosen.iter(batch_size=BATCH))

    roots = [Path(datasets.config.HF_DATASETS_CACHE), Path(HF_HUB_CACHE)]
    source = table_source(name, table.features.arrow_schema, batches, len(table), roots)
    return replace(source, fingerprint=fingerprint([name]))


SOURCE = SourceType(description="'owner/name' on the Hugging Face hub", accepts=is_hub_name, open_value=open_hub)
