"""Reconstruct the command line that repeats a run."""

import dataclasses
import json
import shlex
from typing import Any

from limbeck.core.config import to_json
from limbeck.methods import HostConfig, MethodConfig, method_config
from limbeck.modalities import default_config
from limbeck.runs.config import RunConfig
from limbeck.runs.defaults import ADAPT_BATCH, default_optim
from limbeck.teachers.config import START_TEACHER, TeacherConfig
from limbeck.train.config import TrainConfig


def run_command(config: RunConfig, out: str) -> str:
    """Return the command of a run on a store, with every setting that differs from the default."""
    method, teacher, name = _default_method(config.method), config.teacher, config.backbone.name
    adapts = teacher is not None and teacher.name == START_TEACHER
    verb = "adapt" if adapts else "distill" if teacher else "pretrain"
    words = ["limbeck", verb, config.store, "--out", out, "--method", method.name]
    if host := _host(config.method):
        words += ["--method.host", host]
    if config.companion:
        words += ["--companion", config.companion]
    if config.start:
        words += ["--from", config.start.name]
    if teacher and not adapts:
        words += ["--teacher", teacher.name, *_flags(teacher, TeacherConfig(name=teacher.name), "teacher.")]
    network = "student" if teacher and not adapts else "backbone"
    words += [f"--{network}", name]
    words += _flags(config.training, TrainConfig(batch_size=ADAPT_BATCH) if adapts else TrainConfig(), "")
    words += _flags(config.method, method, "method.")
    words += _flags(config.backbone, default_config(name), f"{network}.")
    words += _flags(config.optim, default_optim(name, teacher is not None, config.start is not None), "optim.")
    return shlex.join(words)


def _host(method: MethodConfig) -> str | None:
    data = to_json(method)
    assert isinstance(data, dict)
    host = data.get("host")
    return str(host["name"]) if isinstance(host, dict) else None


def _default_method(method: MethodConfig) -> MethodConfig:
    """Return the configuration that the command line starts from once the names are given."""
    default: Any = method_config(method.name)()
    host = _host(method)
    chosen: MethodConfig = dataclasses.replace(default, host=HostConfig.choose(host)()) if host else default
    return chosen


def _flags(value: Any, default: Any, prefix: str) -> list[str]:
    words: list[str] = []
    for field in dataclasses.fields(value):
        if field.metadata.get("internal"):  # no flag: a run fills it in
            continue
        new, old = getattr(value, field.name), getattr(default, field.name)
        if dataclasses.is_dataclass(new):
            words += _flags(new, old, f"{prefix}{field.name}.")
        elif new != old:
            flag = prefix.removesuffix(".") if field.name == "name" else prefix + field.name.replace("_", "-")
            words += _flag(flag, new, old)
    return words


def _flag(flag: str, new: Any, old: Any) -> list[str]:
    """Return a setting in tyro's spelling; a flag that is True or False by default has a form with "no-"."""
    if isinstance(old, bool):
        start, dot, last = flag.rpartition(".")
        return [f"--{flag}" if new else f"--{start}{dot}no-{last}"]
    if isinstance(new, dict):
        return [f"--{flag}", json.dumps(new)]
    return [f"--{flag}", *map(str, new if isinstance(new, tuple) else [new])]
