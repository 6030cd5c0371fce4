"""Data sets of the Hugging Face hub, and data sets that its library `datasets` holds in memory."""

import re
import sys
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from limbeck.core.errors import UserError, one_line
from limbeck.core.packages import require
from limbeck.data.fingerprint import fingerprint
from limbeck.data.sources.base import ImageSource, SourceType
from limbeck.data.sources.table import BATCH, TablePart, table_source

HUB_NAME = re.compile(r"[\w-][\w.-]*/[\w-][\w.-]*(:[\w\[\]%:+-]+)?")


def is_hub_source(value: Any) -> bool:
    """Return whether a value is a name on the hub, or an object of `datasets`."""
    return is_hub_name(value) or is_hub_object(value)


def is_hub_name(value: Any) -> bool:
    """Return whether a string is 'owner/name' or 'owner/name:split', and not a misspelled path in a folder 'owner'."""
    return isinstance(value, str) and HUB_NAME.fullmatch(value) is not None and not Path(value).parent.is_dir()


def is_hub_object(value: Any) -> bool:
    """Return whether a value is a data set of the library `datasets`, which need not be imported for that."""
    datasets = sys.modules.get("datasets")
    kinds = ("Dataset", "DatasetDict", "IterableDataset", "IterableDatasetDict")
    return datasets is not None and isinstance(value, tuple(getattr(datasets, kind) for kind in kinds))


def open_hub(value: Any) -> ImageSource:
    """Open a data set, or 'owner/name' or 'owner/name:split' (default: train), downloaded by `datasets`."""
    if not isinstance(value, str):
        return _open_object(value)
    require("hub", "datasets", purpose=f"the Hugging Face data set '{value}'")
    import datasets

    repository, _, split = value.partition(":")
    try:
        table = datasets.load_dataset(repository, split=split or "train")
    except Exception as error:  # not found, offline, gated, unknown split, a script: `datasets` raises many kinds
        raise UserError(
            f"'{value}' is neither a path nor a data set that the Hugging Face hub provides: {one_line(error)}",
            code="hub-failed",
        ) from error
    return replace(_source(value, table), fingerprint=fingerprint([value]))


def _open_object(value: Any) -> ImageSource:
    """Return the rows of a `datasets.Dataset`; UserError for several splits and for streams."""
    import datasets

    if isinstance(value, dict):
        example = f"data['{next(iter(value), 'train')}']"
        raise UserError(
            f"a {type(value).__name__} holds {', '.join(value)}: give one of them, such as {example}",
            code="several-splits",
        )
    if not isinstance(value, datasets.Dataset):
        raise UserError("a stream of `datasets` has no length: load it without streaming=True", code="unknown-source")
    return _source(f"{value.info.dataset_name or type(value).__name__}", value)


def _source(name: str, table: Any) -> ImageSource:
    import datasets
    from huggingface_hub.constants import HF_HUB_CACHE

    def batches(columns: Sequence[str]) -> Iterator[Any]:
        chosen = table.select_columns(list(columns)).with_format("arrow")
        return iter(chosen.iter(batch_size=BATCH))

    roots = [Path(datasets.config.HF_DATASETS_CACHE), Path(HF_HUB_CACHE)]
    return table_source(name, [TablePart(name, name, table.features.arrow_schema, len(table), batches)], roots)


SOURCE = SourceType(
    description="'owner/name' on the Hugging Face hub",
    objects="a data set of `datasets`",
    accepts=is_hub_source,
    open_value=open_hub,
)
