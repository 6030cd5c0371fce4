"""A run: from images to a trained encoder in a folder that explains and recreates itself.

A run folder holds config.json, metrics.csv, tensorboard/, checkpoint.ckpt, encoder/ (timm reads it as "local-dir:...")
and, once evaluated, result.json.
"""

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import torch

from limbeck.backbones import Backbone, BackboneConfig, build_backbone
from limbeck.config import from_json, to_json
from limbeck.contracts import Setting
from limbeck.data.loader import check_batch
from limbeck.data.sources import Source
from limbeck.data.store import Store, open_store
from limbeck.data.tally import ALLOWED
from limbeck.data.views import IMAGENET_MEAN, IMAGENET_STD
from limbeck.disk import alone_in, replacing
from limbeck.distributed import is_first_process, peers_needed
from limbeck.encoders import Preprocessing, load, save_encoder
from limbeck.errors import UserError, reason
from limbeck.evaluate import EvaluateConfig, Result, evaluate, knn_accuracy
from limbeck.evaluate.features import extract
from limbeck.hardware import use_bf16
from limbeck.methods import MethodConfig
from limbeck.methods.sdssl import Config as SdsslConfig
from limbeck.passes import plain_look
from limbeck.recipes import default_optim, fit_backbone, fit_views
from limbeck.train.config import TrainConfig
from limbeck.train.loop import train as train_method
from limbeck.train.meter import Plan, measure
from limbeck.train.optim import OptimConfig, check_milestones

CONFIG, ENCODER, RESULT = "config.json", "encoder", "result.json"
BANK, QUERIES = 10_000, 2_000  # rows of the periodic k-NN: enough for about one percent of deviation
Say = Callable[[str], None]


@dataclass(frozen=True, kw_only=True)
class RunConfig:
    """Everything that defines a run; config.json holds it."""

    store: str
    """Folder of the store."""
    digest: str
    """Digest of its content."""
    method: MethodConfig = field(default_factory=SdsslConfig)
    backbone: BackboneConfig
    optim: OptimConfig
    train: TrainConfig = field(default_factory=TrainConfig)

    def __post_init__(self) -> None:
        """Raises UserError for settings that make no run together."""
        check_milestones(self.optim, self.train)


def pretrain(
    source: Source,
    out: str | Path,
    *,
    method: MethodConfig | None = None,
    backbone: BackboneConfig | None = None,
    optim: OptimConfig | None = None,
    train: TrainConfig | None = None,
    size: int | None = None,
    allow_bad: float = ALLOWED,
    say: Say = print,
) -> Path:
    """Pretrains a backbone on the images of `source` and returns the run's folder, `out`.

    Args:
        source: a folder, parquet files, a store, arrays, ... (see `limbeck.data.sources`).
        out: the run's folder; it must not hold a run yet.
        method: by default SDSSL over BYOL.
        backbone: by default a ViT-Tiny; sizes that are not given are fitted to the images.
        optim: by default AdamW for ViTs and LARS for convolutional networks.
        train: how long and on what.
        size: pixels of the stored images (see `build_store`).
        allow_bad: share of the images that may be unreadable.
        say: where to tell what was chosen.

    Raises:
        UserError: no images, a run in the way, settings that do not fit together.
    """
    run = Path(out)
    if is_first_process() and (run / CONFIG).exists():
        raise UserError(f"{run} holds a run already; go on with `limbeck resume {run}` or choose another folder")
    cfg, store = _configure(source, method, backbone, optim, train, size, allow_bad, say)
    return _fit(cfg, store, run, resume=False)


def plan(
    source: Source,
    *,
    method: MethodConfig | None = None,
    backbone: BackboneConfig | None = None,
    optim: OptimConfig | None = None,
    train: TrainConfig | None = None,
    size: int | None = None,
    allow_bad: float = ALLOWED,
    say: Say = print,
) -> Plan:
    """What `pretrain` with the same arguments would cost, from a few of its steps; writes no run.

    One process takes its share of a batch; several are reckoned to be as many times as fast.

    Raises:
        UserError: as `pretrain`.
    """
    cfg, store = _configure(source, method, backbone, optim, train, size, allow_bad, say)
    processes = cfg.train.devices * cfg.train.num_nodes
    alone = replace(cfg.train, devices=1, num_nodes=1, batch_size=cfg.train.batch_size // processes)
    method_alone, views = cfg.method.build(_fresh_backbone(cfg)), cfg.method.make_views(_image_size(cfg))
    found = measure(method_alone, store, views, alone, cfg.optim)
    return replace(
        found,
        images_per_second=found.images_per_second * processes,
        largest_batch=min(found.largest_batch * processes, len(store)),
        steps=cfg.train.steps(len(store) // cfg.train.batch_size),
        seconds=found.seconds / processes,
    )


def resume(run: str | Path, *, stop_on_collapse: bool = True) -> Path:
    """Goes on with a run from its last checkpoint, to the same numbers as if it had never stopped.

    Without `stop_on_collapse` it also does so where its embeddings have collapsed (docs/health.md).
    """
    folder = Path(run)
    cfg = read_config(folder)
    if not cfg.store:
        raise UserError(f"{folder} was trained on arrays in memory, which are gone; start it anew from Python")
    store = Store.open(cfg.store)
    if store.digest != cfg.digest:
        raise UserError(f"the store {cfg.store} has changed since {folder} began; build it again from the same images")
    return _fit(cfg, store, folder, resume=True, stop_on_collapse=stop_on_collapse)


def describe(cfg: RunConfig, images: int) -> str:
    """What a run does, in a sentence."""
    host = f" over {cfg.method.host.name}" if isinstance(cfg.method, SdsslConfig) else ""
    return (
        f"{cfg.method.name}{host} on {images:,} images, views '{cfg.method.views}': {cfg.backbone.name}, "
        f"{cfg.optim.name}, learning rate {cfg.optim.lr:g} per 256 images, weight decay {cfg.optim.weight_decay:g}"
    )


def read_config(run: Path) -> RunConfig:
    """The configuration of a run folder; UserError when there is none or it does not fit this version."""
    file = run / CONFIG
    if not file.is_file():
        raise UserError(f"{run} is no run: it has no {CONFIG}")
    try:
        data = json.loads(file.read_bytes())
    except (ValueError, RecursionError) as error:
        raise UserError(f"{file} is not JSON: {reason(error)}") from error
    return from_json(RunConfig, data, CONFIG)


def evaluate_run(
    run: str | Path,
    train: Source,
    test: Source,
    cfg: EvaluateConfig | None = None,
    *,
    allow_bad: float = ALLOWED,
    say: Say = print,
) -> Result:
    """Judges every layer of a run's encoder beside the same network at its random start; writes result.json.

    `allow_bad` is the share of images of either source that may be unreadable; `say` is told how many were.
    """
    folder = Path(run)
    config = read_config(folder)
    size = Store.open(config.store).size if config.store else None
    bank, queries = (open_store(source, size=size, allow_bad=allow_bad) for source in (train, test))
    for store in (bank, queries):
        if store.skipped:
            say(store.account())
    result = evaluate(load(folder), bank, queries, cfg or EvaluateConfig(), reference=_fresh_backbone(config))
    result.save(folder / RESULT)
    return result


def _configure(
    source: Source,
    method: MethodConfig | None,
    backbone: BackboneConfig | None,
    optim: OptimConfig | None,
    train: TrainConfig | None,
    size: int | None,
    allow_bad: float,
    say: Say,
) -> tuple[RunConfig, Store]:
    """The images, and all that a run of them is with what was not given filled in; says what was chosen."""
    store = open_store(source, size=size, allow_bad=allow_bad)
    train = train or TrainConfig()
    check_batch(train.batch_size, len(store), train.devices * train.num_nodes, train.accumulate)
    fitted = fit_backbone(backbone or BackboneConfig(), store.size)
    assert fitted.backbone.img_size is not None
    method = method or SdsslConfig()
    suited = method.fit(_setting(store, train))
    seeing = fit_views(fitted.backbone, suited.make_views(fitted.backbone.img_size))
    cfg = RunConfig(
        store=str(store.path.absolute()) if store.path else "",
        digest=store.digest,
        method=suited,
        backbone=seeing.backbone,
        optim=optim or default_optim(fitted.backbone.name),
        train=train,
    )
    chosen = [*fitted.reasons, *seeing.reasons, *_chosen(method, cfg.method)]
    for sentence in [store.account(), *chosen, describe(cfg, len(store))] if is_first_process() else []:
        say(sentence)
    return cfg, store


def _fit(cfg: RunConfig, store: Store, run: Path, *, resume: bool, stop_on_collapse: bool = True) -> Path:
    backbone = _fresh_backbone(cfg)
    method = cfg.method.build(backbone)
    size = _image_size(cfg)
    views = cfg.method.make_views(size)
    with _guarded(run):
        if is_first_process():
            with replacing(run / CONFIG) as path:
                path.write_text(json.dumps(to_json(cfg), indent=2) + "\n")
        probe = _probe(store, size) if store.labelled else None
        train = replace(cfg.train, stop_on_collapse=cfg.train.stop_on_collapse and stop_on_collapse)
        train_method(method, store, views, train, cfg.optim, run, config=to_json(cfg), probe=probe, resume=resume)
        if is_first_process():
            preprocessing = Preprocessing(size=size, store_size=store.size, mean=IMAGENET_MEAN, std=IMAGENET_STD)
            save_encoder(method.encoder(), run / ENCODER, preprocessing, {"run": to_json(cfg)})
    return run


@contextmanager
def _guarded(run: Path) -> Iterator[None]:
    """While a run's processes train: no others do so in its folder, and if one of them ends the others say it."""
    ended = f"another process of this run has ended, and this one with it; go on with `limbeck resume {run}`"
    with alone_in(run) if is_first_process() else nullcontext(), peers_needed(ended):
        yield


def _chosen(asked: MethodConfig, fitted: MethodConfig) -> list[str]:
    """What `fit` filled in, a sentence each; the host's too."""
    sentences = []
    for name, value in vars(fitted).items():
        if isinstance(value, MethodConfig):
            sentences += _chosen(getattr(asked, name), value)
        elif value != getattr(asked, name):
            sentences.append(f"{fitted.name} has {name} {value}, which suits these images and batches")
    return sentences


def _setting(store: Store, train: TrainConfig) -> Setting:
    classes = len(store.label_names) if store.labelled else 0
    steps = train.steps(len(store) // train.batch_size)
    return Setting(len(store), train.batch_size, train.batch_size // train.accumulate, classes, steps)


def _fresh_backbone(cfg: RunConfig) -> Backbone:
    """The network at its random start, which is the seed's."""
    torch.manual_seed(cfg.train.seed)
    return build_backbone(cfg.backbone)


def _image_size(cfg: RunConfig) -> int:
    assert cfg.backbone.img_size is not None
    return cfg.backbone.img_size


def _probe(store: Store, size: int) -> Callable[[Backbone], dict[str, float]]:
    """Scores an encoder by 20-NN within the store: queries and bank are disjoint random rows."""
    rows = np.random.default_rng(0).permutation(len(store))[: BANK + QUERIES]
    queries = min(QUERIES, len(rows) // 5)
    labels = torch.from_numpy(store.labels[rows])

    def probe(backbone: Backbone) -> dict[str, float]:
        device = next(backbone.parameters()).device
        look = plain_look(store, size, IMAGENET_MEAN, IMAGENET_STD, device)
        found = extract(backbone, look, rows, device=device, bf16=use_bf16("auto", device))
        final = found[backbone.taps[-1]].cpu()
        return {"knn": knn_accuracy(final[queries:], labels[queries:], final[:queries], labels[:queries])}

    return probe
