"""Suggest the option that somebody meant who typed another word, by the habits of other tools."""

import difflib
from collections.abc import Iterable, Sequence

SYNONYMS: dict[str, tuple[str, ...]] = {
    "output": ("out",),
    "output_dir": ("out",),
    "out_dir": ("out",),
    "save_dir": ("out",),
    "save_path": ("out",),
    "run_dir": ("out",),
    "data": ("source",),
    "dataset": ("source",),
    "data_dir": ("source",),
    "images": ("source",),
    "input": ("source",),
    "img_size": ("image_size",),
    "size": ("image_size", "store_size"),
    "resolution": ("image_size",),
    "model": ("backbone", "student"),
    "arch": ("backbone", "student"),
    "architecture": ("backbone", "student"),
    "network": ("backbone", "student"),
    "encoder": ("backbone", "student"),
    "pretrained": ("from",),
    "weights": ("from",),
    "init_from": ("from",),
    "finetune": ("from",),
    "learning_rate": ("lr",),
    "base_lr": ("lr",),
    "wd": ("weight_decay",),
    "optimizer": ("optim",),
    "bs": ("batch_size",),
    "batch": ("batch_size",),
    "gpus": ("devices",),
    "num_gpus": ("devices",),
    "device": ("accelerator",),
    "num_epochs": ("epochs",),
    "max_epochs": ("epochs",),
    "num_workers": ("workers",),
    "threads": ("workers",),
    "jobs": ("workers",),
    "labelled": ("labeled",),
    "layer": ("depth",),
    "layers": ("depth",),
    "num_layers": ("depth",),
    "type": ("format",),
    "val": ("test",),
    "validation": ("test",),
    "checkpoint": ("run",),
    "tau": ("temperature",),
    "momentum": ("ema_momentum",),
    "amp": ("precision",),
    "grad_accum": ("accumulate_steps",),
    "warmup": ("warmup_epochs",),
    "ignore": ("leave_out",),
    "skip": ("leave_out",),
}
"""Word of other tools -> last parts of the names here, with underscores."""


def suggest(word: str, names: Iterable[str], most: int = 3) -> list[str]:
    """Return the dotted `names` that `word` may stand for, the likeliest first: at most `most`, or none.

    `lr` stands for `optim.lr`; `output` for `out`, as other tools call it; `epoch` for `epochs`; `size` for names that
    have this part. Hyphens and underscores are the same.
    """
    options = {name: _plain(name) for name in names}
    plain = _plain(word)
    for rule in (_same_end, _synonym, _misspelled, _same_part):
        if found := rule(plain, options):
            return found[:most]
    return []


def meaning(options: Sequence[str]) -> str:
    """Return `" (did you mean 'a' or 'b'?)"` for the suggestions in `options`, or an empty string without any."""
    quoted = " or ".join(f"'{option}'" for option in options)
    return f" (did you mean {quoted}?)" if options else ""


def _plain(name: str) -> str:
    return name.lower().replace("-", "_")


def _last(name: str) -> str:
    return name.rpartition(".")[2]


def _same_end(word: str, options: dict[str, str]) -> list[str]:
    end = _last(word)
    return sorted((name for name, plain in options.items() if _last(plain) == end), key=lambda name: name.count("."))


def _synonym(word: str, options: dict[str, str]) -> list[str]:
    return [name for known in SYNONYMS.get(_last(word), ()) for name in _same_end(known, options)]


def _misspelled(word: str, options: dict[str, str]) -> list[str]:
    close = difflib.get_close_matches(word, [*options.values(), *map(_last, options.values())], n=3, cutoff=0.75)
    return [name for match in dict.fromkeys(close) for name, plain in options.items() if match in (plain, _last(plain))]


def _same_part(word: str, options: dict[str, str]) -> list[str]:
    return [name for name, plain in options.items() if word in _last(plain).split("_")]
