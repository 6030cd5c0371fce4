"""Lines of reference: what an accuracy is worth next to raw pixels, patch filters and networks that are at hand."""

import json
import logging
import platform
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import replace

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from limbeck.core.config import from_json, to_json
from limbeck.core.errors import UserError
from limbeck.core.files import read_json, write_json
from limbeck.core.types import Dataset
from limbeck.data.fingerprint import fingerprint
from limbeck.data.store.open import cache_folder
from limbeck.evaluation.data import EvalData, as_store
from limbeck.evaluation.inputs import MetricInputs
from limbeck.evaluation.measure import measure_whole
from limbeck.evaluation.metric import Group
from limbeck.evaluation.metrics import all_columns
from limbeck.evaluation.models import Bank, EvaluatedModel, TeacherModel
from limbeck.evaluation.results import VERSION, ModelScores
from limbeck.features.extract import extract_matrix
from limbeck.features.fitted_patch_filters import VERSION as FILTERS_VERSION
from limbeck.features.fitted_patch_filters import PatchFilters, patch_filters
from limbeck.features.images import eval_images
from limbeck.features.pixels import CenteredPixels
from limbeck.models.patch_filters import PatchFiltersConfig
from limbeck.teachers.config import TeacherConfig
from limbeck.teachers.load import load_teacher

logger = logging.getLogger(__name__)

PIXELS, FILTERS, UNTRAINED_NETWORK = "raw pixels", "patch filters", "untrained network"
FIXED_KERNELS = "fixed kernels"
"""Those that an encoder of series is joined with, without its blocks."""
MEAN_POSE, SUPERVISED = "mean pose", "supervised pixels"
"""Of keypoints: the mean of the training images, and ridge regression from pixels."""
PROJECTED = "projected patch filters"
"""The teacher of a run that follows patch filters, which needs no training either."""
START_NETWORK = "start: "
"""Begins the name of the network with the weights that a run started from."""
GROUPS: tuple[Group, ...] = ("cost", "accuracy")
"""Metrics of a line of reference."""


class FixedModel(EvaluatedModel):
    """Features that need no training, as a model with one depth."""

    depths = (0,)

    def __init__(self, name: str, network: CenteredPixels | PatchFilters) -> None:
        self.name, self.network, self.image_size = name, network, network.preprocessing.image_size
        self.offers = frozenset({"descriptors", "any_shape", *({"frames"} if name == PIXELS else ())})

    def features(self, data: EvalData, store: Dataset) -> Bank:
        """Extract the features of unaugmented images in float32."""
        network, how = self.network.to(data.device), self.network.preprocessing
        with torch.inference_mode():
            return extract_matrix(
                lambda batch: {0: network(batch)},
                eval_images(as_store(store), how.image_size, how.mean, how.std, data.device),
                np.arange(len(store)),
                {0: network.dim},
                device=data.device,
                batch_size=data.cfg.batch_size,
                memory=int(data.cfg.memory_gib * 2**30),
                show=data.description(self.name),
            )

    def descriptors(self, data: EvalData, store: Dataset) -> Bank:
        """Return the same features."""
        return self.features(data, store)

    def frame_maps(self, data: EvalData, frame: Float[Tensor, "1 3 H W"]) -> Bank:
        """Return the mean colors of 4 x 4 parts of each patch of 16 pixels, less their mean over the frame."""
        parts = F.pixel_unshuffle(F.avg_pool2d(frame, 4), 4)[0]
        return {0: parts.sub(parts.mean(dim=(1, 2), keepdim=True)).to(data.device)}

    def vectors(self, data: EvalData, image: Float[Tensor, "1 3 H W"]) -> Bank:
        """Return the features of the image at the size and proportions of all others."""
        how = self.network.preprocessing
        mean, std = (torch.tensor(values)[:, None, None] for values in (how.mean, how.std))
        square = F.interpolate(image, size=(how.image_size,) * 2, mode="bilinear", antialias=True).clamp(0, 1)
        with torch.inference_mode():
            return {0: self.network.to(data.device)(((square - mean) / std).to(data.device))[0]}

    def networks(self) -> dict[int, nn.Module]:
        """Return the network."""
        return {0: self.network}


def measure_references(
    data: EvalData, others: Sequence[EvaluatedModel] = (), measured: Sequence[ModelScores] = ()
) -> tuple[ModelScores, ...]:
    """Return cost and accuracies of raw pixels and patch filters, unless they are switched off, and of `others`.

    `measured` are the scores of further models, which follow. Without labels the result is empty. The models are moved
    to the device one after the other.
    """
    if data.labels is None:
        return ()
    if data.k < data.cfg.k:
        logger.info("k-NN takes %d neighbors instead of %d: the smallest class has no more images", data.k, data.cfg.k)
    fixed = _measure_fixed(data) if data.cfg.references else ()
    return (*fixed, *_measure(data, others), *measured)


def _measure(data: EvalData, models: Iterable[EvaluatedModel]) -> list[ModelScores]:
    return [measure_whole(MetricInputs(model, data), GROUPS) for model in models]


def _measure_fixed(data: EvalData) -> list[ModelScores]:
    """Return the scores of raw pixels and patch filters, measured once for these images and settings and then cached.

    They are a function of images, settings and, because of the latency, machine.
    """
    try:
        path = cache_folder(None) / f"references-{_key(data)}.json"
    except UserError as error:
        logger.warning("the lines of reference are not cached: %s", error)
        return _measure(data, fixed_models(data))
    if path.is_file():
        with suppress(UserError, TypeError):
            found = [from_json(ModelScores, scores, str(path)) for scores in read_json(path)]
            logger.info("raw pixels and patch filters as measured before, from '%s'", path)
            return found
    found = _measure(data, fixed_models(data))
    write_json(path, [to_json(scores) for scores in found])
    return found


def _key(data: EvalData) -> str:
    """Return a digest of everything that the scores of fixed models depend on."""
    names = [column.name for column in all_columns(*GROUPS)]
    settings = to_json(replace(data.cfg, progress=True))
    machine = [platform.node(), str(data.device), str(torch.get_num_threads())]
    parts = [str(VERSION), data.train.digest, data.test.digest, json.dumps(settings, sort_keys=True), *names, *machine]
    files = [file for video in data.videos for file in (*video.frames, *video.masks)]
    if copies := data.copydays:
        paths = (path for part in (copies.originals, *(block.paths for block in copies.blocks)) for path in part)
        files += [copies.folder / path for path in paths]
    if queries := data.revisited:
        files += [queries.file, *queries.database, *(query.image for query in queries.queries)]
    parts += [f"{file} {(stat := file.stat()).st_size} {stat.st_mtime_ns}" for file in files]
    return fingerprint([*parts, str(FILTERS_VERSION), repr(PatchFiltersConfig())])[:16]


def fixed_models(data: EvalData) -> Iterator[FixedModel]:
    """Yield what needs no training, fitted to the training images, one at a time."""
    yield FixedModel(PIXELS, CenteredPixels.fit(as_store(data.train)))
    yield FixedModel(FILTERS, patch_filters(as_store(data.train), description=data.description(f"{FILTERS}: k-means")))


def load_whole(name: str) -> TeacherModel:
    """Return the network `name` as a whole: a run, an encoder, an export, a folder of timm or Hugging Face, timm:NAME.

    Raises:
        UserError: there is no such network, or its weights cannot be loaded.
    """
    try:
        return TeacherModel(load_teacher(TeacherConfig(name=name)), name)
    except UserError as error:
        raise UserError(f"'{name}' cannot be evaluated: {error}", code=error.code) from error
