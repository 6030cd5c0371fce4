"""Functions of `import limbeck` for runs: the commands, with flags as keywords."""

from collections.abc import Sequence
from inspect import Parameter, signature
from os import PathLike
from pathlib import Path
from typing import Any

from torch import nn

from limbeck.api.options import make_request, names, with_options
from limbeck.api.run import Run
from limbeck.core.config import EncoderConfig
from limbeck.data.sources.open import Source
from limbeck.evaluation.config import EvaluateConfig
from limbeck.evaluation.label_free import IMAGES
from limbeck.evaluation.results import EvaluationResult
from limbeck.methods import MethodConfig
from limbeck.models.config import BackboneConfig, StartConfig
from limbeck.runs import api
from limbeck.runs.compare import ComparisonWithoutLabels, compare_without_labels
from limbeck.runs.defaults import ADAPT_BATCH
from limbeck.runs.folder import default_folder
from limbeck.runs.request import RunRequest, RunSettings
from limbeck.runs.resolve import chosen_method
from limbeck.runs.resume import resume as resume_run
from limbeck.teachers.config import START_TEACHER, TeacherConfig
from limbeck.train.config import OptimConfig, TrainConfig
from limbeck.train.estimate import CostEstimate

Folder = str | PathLike[str]
_PLANNED = {"backbone", "teacher", "teacher_module", *RunSettings.__annotations__}
_EVALUATED = {
    name
    for name, parameter in signature(api.evaluate_run).parameters.items()
    if parameter.kind is Parameter.KEYWORD_ONLY
}


def pretrain(
    source: Source,
    out: Folder | None = None,
    *,
    method: MethodConfig | str | None = None,
    backbone: EncoderConfig | str | None = None,
    start: StartConfig | Folder | None = None,
    optim: OptimConfig | str | None = None,
    training: TrainConfig | None = None,
    recipe: str | None = None,
    **options: Any,
) -> Run:
    """Pretrain a backbone on unlabeled images: `limbeck.pretrain("photos", method="simclr", epochs=50)`.

    Args:
        source: a folder, parquet files, a store, arrays, ...
        out: folder of the run, which must be new; by default runs/METHOD-SOURCE.
        method: a name (`limbeck methods`) or a configuration, such as `limbeck.methods.SimCLRConfig`.
        backbone: any timm model by name, or a configuration.
        start: weights to start from: a run, an export, a folder or a model of timm ("timm:NAME"), or a file with the
            weights of `backbone`; by default none.
        optim: a name or a configuration.
        training: how long to train and on which devices.
        recipe: name of a recipe (`limbeck recipes`), whose settings lie below everything that is given here.
        **options: flags of `limbeck pretrain` with underscores, such as `epochs=50`, `batch_size=128`, `optim_lr=0.06`,
            `method_temperature=0.1`, `backbone_image_size=64`, `store_size=256`. An option wins over the configuration
            that it belongs to; what is not given is chosen from the images.

    Raises:
        UserError: there are no images, an option is unknown, the folder contains a run, or settings do not fit.
    """
    given = {"method": method, "backbone": backbone, "start": start, "optim": optim, "training": training}
    return _start(make_request(source, given | {"recipe": recipe, **options}, verb="pretrain"), out)


def distill(
    source: Source,
    out: Folder | None = None,
    *,
    teacher: TeacherConfig | Folder | None = None,
    teacher_module: nn.Module | None = None,
    student: BackboneConfig | str | None = None,
    start: StartConfig | Folder | None = None,
    method: MethodConfig | str | None = None,
    optim: OptimConfig | str | None = None,
    training: TrainConfig | None = None,
    recipe: str | None = None,
    **options: Any,
) -> Run:
    """Distill a large network into a small one: `limbeck.distill("photos", teacher="vit_base_patch14_dinov2")`.

    Args:
        source: a folder, parquet files, a store, arrays, ...
        out: folder of the run, which must be new; by default runs/METHOD-SOURCE.
        teacher: a timm model, a run, a folder, or a configuration (docs/distillation.md); required unless the recipe
            has one.
        teacher_module: the teacher itself, if it is a module of your own; give `teacher_image_size`, `teacher_mean` and
            `teacher_std`, too.
        student: any timm model by name, or a configuration.
        start: weights that the student starts from, as in `pretrain`.
        method: a distiller by name, or a configuration.
        optim: a name or a configuration.
        training: how long to train and on which devices.
        recipe: name of a recipe (`limbeck recipes`), whose settings lie below everything that is given here.
        **options: flags of `limbeck distill` with underscores, as in `pretrain`: `teacher_cached_views=4`.

    Raises:
        UserError: as `pretrain`; or there is no teacher, it cannot be loaded, or its preprocessing is unknown.
    """
    given: dict[str, Any] = {"teacher": teacher, "teacher_module": teacher_module, "student": student, "method": method}
    given |= {"start": start, "optim": optim, "training": training, "recipe": recipe, **options}
    return _start(make_request(source, given, verb="distill"), out)


def adapt(
    source: Source,
    out: Folder | None = None,
    *,
    start: StartConfig | Folder,
    backbone: BackboneConfig | str | None = None,
    method: MethodConfig | str | None = None,
    optim: OptimConfig | str | None = None,
    training: TrainConfig | None = None,
    recipe: str | None = None,
    **options: Any,
) -> Run:
    """Continue trained weights on your own images, held to them: `limbeck.adapt("photos", start="timm:resnet18")`.

    The encoder of the run is the start itself unless the adapted weights are shown to be better on images that were
    held out; `run.adaptation` has the evidence.

    Args:
        source: a folder, parquet files, a store, arrays, ...
        out: folder of the run, which must be new; by default runs/METHOD-SOURCE.
        start: the weights, as in `pretrain`.
        backbone: the network of a file of weights, by name, or a configuration.
        method: a distiller by name, or a configuration; by default Anchor.
        optim: a name or a configuration.
        training: how long to train and on which devices; by default batches of 64 images, and 20 minutes.
        recipe: name of a recipe (`limbeck recipes`), whose settings lie below everything that is given here.
        **options: flags of `limbeck adapt` with underscores, as in `pretrain`.

    Raises:
        UserError: as `pretrain`; or the start cannot be loaded.
    """
    usual = None if recipe else TrainConfig(batch_size=ADAPT_BATCH)
    given = {"method": method, "backbone": backbone, "start": start, "optim": optim, "recipe": recipe, **options}
    given |= {"training": training or usual, "teacher": TeacherConfig(name=START_TEACHER)}
    return _start(make_request(source, given, verb="adapt"), out)


def plan(source: Source, **options: Any) -> CostEstimate:
    """Estimate what `pretrain`, or `distill` with a `teacher`, would cost with these arguments; no run is written."""
    request = make_request(source, options, verb="distill" if options.get("teacher") is not None else None)
    return api.plan(source, **{name: value for name, value in vars(request).items() if name in _PLANNED})


def resume(run: Folder, *, stop_on_collapse: bool = True, teacher_module: nn.Module | None = None, **place: Any) -> Run:
    """Continue a run from its last checkpoint, to the same numbers as if it had never stopped.

    Args:
        run: folder of the run.
        stop_on_collapse: stop the run if its representations have collapsed (docs/health.md).
        teacher_module: the teacher of a distillation, if it is a module of your own.
        **place: `store` and `teacher`, where they have moved; `devices`, `num_nodes`, `accelerator`, `precision`,
            `attention`, `memory_format`.

    Raises:
        UserError: the folder is not a run, or its data, its teacher or its configuration have changed.
    """
    return Run(resume_run(Path(run), stop_on_collapse=stop_on_collapse, teacher_module=teacher_module, **place))


def evaluate(
    run: Folder,
    train: Source,
    test: Source,
    cfg: EvaluateConfig | None = None,
    *,
    teacher_module: nn.Module | None = None,
    **options: Any,
) -> EvaluationResult:
    """Measure every layer of a run, next to the untrained network, and write result.json into the run.

    Args:
        run: folder of the run.
        train: labeled images to fit on.
        test: labeled images to score.
        cfg: settings of the evaluation.
        teacher_module: the teacher, with which a student is compared, if it is a module of your own.
        **options: flags of `limbeck evaluate` with underscores: `k=5`, `linear="none"`.

    Raises:
        UserError: the folder is not a run, labels are missing, or an option is unknown.
    """
    direct = {name: options.pop(name) for name in _EVALUATED & {*options}}
    if "others" in direct:
        direct["others"] = names(direct["others"], "others")
    settings = with_options(cfg or EvaluateConfig(), options, known=_EVALUATED)
    return api.evaluate_run(Path(run), train, test, settings, teacher_module=teacher_module, **direct)


def compare(
    networks: Folder | Sequence[Folder],
    images: Source | None = None,
    *,
    count: int = IMAGES,
    device: str = "auto",
    seed: int = 0,
) -> ComparisonWithoutLabels:
    """Compare runs, or any networks, without labels, on the same images and views.

    Args:
        networks: two or more runs, encoders, exports, folders or names ("timm:NAME").
        images: images that none of them was trained on; by default those of the first run.
        count: images to draw; each is seen as it is and in eight views.
        device: where to compute.
        seed: of the images and views.

    Raises:
        UserError: fewer than two networks or a dozen images, or a network that cannot be loaded.
    """
    several = names(networks, "networks")
    return compare_without_labels(several, images, count=count, device=device, seed=seed)


def report(runs: Folder | Sequence[Folder], out: Folder = "report.html", *, images: bool = True) -> Path:
    """Write one HTML page about one or several runs, and return its path.

    Without `images` it has no pictures of the data.

    Raises:
        UserError: a folder is not a run, or a file in it is damaged.
    """
    from limbeck.reports.page import write_report

    return write_report([Path(run) for run in names(runs, "runs")], Path(out), images=images)


def _start(request: RunRequest, out: Folder | None) -> Run:
    folder = default_folder(chosen_method(request).name, request.source) if out is None else Path(out)
    return Run(api.start_run(request, folder))
