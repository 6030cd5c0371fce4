"""Arguments of plan, pretrain and distill: the flags of the chosen method, network and teacher, over a config file."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

import tyro

from limbeck.cli.arguments import FLATTENED, Flag, has_flag, peek
from limbeck.core.config_file import ConfigFile
from limbeck.core.errors import UserError
from limbeck.data.check.issues import ALLOW_BAD
from limbeck.runs.recipes import Verb, find_recipe, recipe_file
from limbeck.train.config import TrainConfig
from limbeck.train.length import parse_duration

if TYPE_CHECKING:
    from limbeck.core.config import EncoderConfig
    from limbeck.methods import MethodConfig
    from limbeck.modalities import Modality
    from limbeck.models.config import StartConfig
    from limbeck.train.config import OptimConfig

MaybeSource = Annotated[str | None, tyro.conf.Positional, tyro.conf.arg(metavar="SOURCE")]
MethodName = Annotated[str, tyro.conf.arg(name="method", metavar="NAME")]
HostName = Annotated[str, tyro.conf.arg(name="method.host", metavar="NAME")]
FROM = tyro.conf.arg(name="from")
NO_FILE = ConfigFile()


@dataclass(frozen=True, kw_only=True)
class RunArgs:
    """Arguments that plan, pretrain and distill share; each of them adds `start`, with its own default."""

    source: MaybeSource = None
    """What `limbeck store` takes, or a store; by default `store` of the configuration file."""
    out: str | None = None
    """Folder of the run; by default runs/METHOD-SOURCE."""
    config: str | None = None
    """YAML or JSON file with the keys of a run's config.json; flags win over it."""
    recipe: Annotated[str | None, tyro.conf.arg(metavar="NAME")] = None
    """Settings of a recipe, as of a file (`limbeck recipes`); flags win over it."""
    print_config: Flag = False
    """Print the configuration as JSON, with everything that is chosen from the images, and train nothing."""
    time: str | None = None
    """End within this time, such as 30m, 2h or 90s: the epochs follow from the measured speed."""
    quick: Flag = False
    """A first look in ten minutes, or in --time: small network and images."""
    store_size: int | None = None
    """Side of the stored images in pixels; by default as `limbeck store` chooses."""
    companion: str | None = None
    """A store of depth (`limbeck store --depth`) with a row for every image, for a method that compares with it."""
    allow_bad: float = ALLOW_BAD
    """Share of the images that may be unreadable."""
    exclude: tuple[str, ...] = ()
    """Leave out images that match one of these patterns, such as '*_mask.png', or a folder's name."""
    only: tuple[str, ...] = ()
    """Leave out images that match none of these patterns, such as '*.jpg'."""
    max_images: int | None = None
    """Take so many images, drawn at random, of a source with more; by default what can be prepared within --time."""
    file: ClassVar[ConfigFile] = NO_FILE
    """The content of `config`, or the settings of `recipe`."""
    unnamed: ClassVar[Mapping[str, Any]] = {}
    """Defaults, by field, that the run replaces by what fits the machine, since no name is given."""
    words: ClassVar[Sequence[str]] = ()
    """The words of the command line."""

    def __post_init__(self) -> None:
        """Raise UserError for a time that is none."""
        if self.time is not None:
            parse_duration(self.time)


def plan_arguments(argv: Sequence[str]) -> type[RunArgs]:
    """Return the arguments of plan: those of distill for a teacher or a recipe with one, else those of pretrain."""
    recipe = peek(argv, "--recipe")
    verb = find_recipe(recipe).verb if recipe else ""
    distills = peek(argv, "--teacher") or verb == "distill" or (not recipe and _settings(argv).name_in("teacher"))
    kind = (distill_arguments if distills else pretrain_arguments)(argv)

    @dataclass(frozen=True, kw_only=True)
    class PlanArgs(kind):  # type: ignore[valid-type, misc]
        images: float | None = None
        """Plan store, teacher, graph, training and evaluation of so many images, such as 100e6, in place of one run."""
        machines: int = 1
        """With --images: machines, each like this one unless --constants says otherwise."""
        gpus: int | None = None
        """With --images: GPUs of each machine; by default as many as this one has, 0 for its processor."""
        constants: str | None = None
        """With --images: YAML or JSON file of constants that are not measured here (docs/scale.md)."""

    return PlanArgs


def pretrain_arguments(argv: Sequence[str]) -> type[RunArgs]:
    """Return the arguments of plan and pretrain for the method, host and network that `argv` or its file names."""
    from limbeck.methods import MethodConfig, method_config
    from limbeck.models.config import StartConfig
    from limbeck.runs.defaults import default_method, default_optim, default_training
    from limbeck.train.config import OptimConfig

    given = _settings(argv, "pretrain")
    if given.name_in("teacher"):
        raise UserError(f"'{given.name}' configures a distillation: use `limbeck distill`", code="is-distillation")
    data = _modality(argv, given, "--backbone").name
    usual, length = default_method(modality=data), default_training(data)
    chosen = _method(argv, given, usual.name, method_config)
    host: Any = getattr(chosen, "host", None)
    weights = _start(argv, given)
    named = _encoder(argv, given, "--backbone")
    network = given.over(named or _default_encoder(argv, given, _runs_small(argv, given)), "backbone", named=True)
    optimizer = given.over(default_optim(network.name, has_start=bool(weights.name)), "optim")
    free = _unnamed(argv, given, usual, chosen, optimizer) | ({} if named else {"backbone": network})

    @dataclass(frozen=True, kw_only=True)
    class PretrainArgs(RunArgs):
        file: ClassVar[ConfigFile] = given
        unnamed: ClassVar[Mapping[str, Any]] = free
        words: ClassVar[Sequence[str]] = argv
        training: Annotated[TrainConfig, FLATTENED] = field(default_factory=lambda: given.over(length, "training"))
        method_name: MethodName = chosen.name
        """Training method; `limbeck methods` lists them."""
        method: MethodConfig = field(default_factory=lambda: chosen)
        backbone: Any = field(default_factory=lambda: network)
        start: Annotated[StartConfig, FROM] = field(default_factory=lambda: weights)
        optim: OptimConfig = field(default_factory=lambda: optimizer)

    if host is None:
        return PretrainArgs

    @dataclass(frozen=True, kw_only=True)
    class HostedArgs(PretrainArgs):
        host_name: HostName = host.name
        """Method that this one is built on."""

    return HostedArgs


def distill_arguments(argv: Sequence[str]) -> type[RunArgs]:
    """Return the arguments of distill for the method, teacher and student that `argv` or its file names."""
    from limbeck.methods import DistillConfig, distill_config
    from limbeck.models.config import StartConfig
    from limbeck.runs.defaults import default_optim, default_training
    from limbeck.teachers.config import TeacherConfig
    from limbeck.train.config import OptimConfig

    given = _settings(argv, "distill")
    chosen: Any = _method(argv, given, "simreg", distill_config)
    frozen = TeacherConfig(name=peek(argv, "--teacher") or given.name_in("teacher") or "")
    weights = _start(argv, given)
    named = _encoder(argv, given, "--student")
    modality = _modality(argv, given, "--student")
    usual = modality.small_student().value if _runs_small(argv, given) else modality.default_student()
    network = given.over(named or usual, "backbone", named=True)
    length, optimizer = default_training(modality.name), default_optim(network.name, True, bool(weights.name))

    @dataclass(frozen=True, kw_only=True)
    class DistillArgs(RunArgs):
        file: ClassVar[ConfigFile] = given
        unnamed: ClassVar[Mapping[str, Any]] = {} if named else {"student": network}
        words: ClassVar[Sequence[str]] = argv
        training: Annotated[TrainConfig, FLATTENED] = field(default_factory=lambda: given.over(length, "training"))
        teacher: TeacherConfig = field(default_factory=lambda: given.over(frozen, "teacher", named=True))
        student: Any = field(default_factory=lambda: network)
        start: Annotated[StartConfig, FROM] = field(default_factory=lambda: weights)
        method_name: MethodName = chosen.name
        """Distillation method; `limbeck methods` lists them."""
        method: DistillConfig = field(default_factory=lambda: chosen)
        optim: OptimConfig = field(default_factory=lambda: given.over(optimizer, "optim"))

    return DistillArgs


def adapt_arguments(argv: Sequence[str]) -> type[RunArgs]:
    """Return the arguments of adapt for the method and the start that `argv` or its file names."""
    from limbeck.methods import DistillConfig, distill_config
    from limbeck.models.config import StartConfig
    from limbeck.runs.defaults import ADAPT_BATCH, check_adapted, default_method, default_optim
    from limbeck.teachers.config import START_TEACHER, TeacherConfig
    from limbeck.train.config import OptimConfig

    given = _settings(argv, "adapt")
    check_adapted(_modality(argv, given, "--backbone"))
    chosen: Any = _method(argv, given, default_method(START_TEACHER).name, distill_config)
    weights = _start(argv, given)
    named = _encoder(argv, given, "--backbone")
    network = given.over(named or _default_encoder(argv, given, False), "backbone", named=True)
    usual = TrainConfig(batch_size=ADAPT_BATCH)

    @dataclass(frozen=True, kw_only=True)
    class AdaptArgs(RunArgs):
        file: ClassVar[ConfigFile] = given
        unnamed: ClassVar[Mapping[str, Any]] = {} if named else {"backbone": network}
        words: ClassVar[Sequence[str]] = argv
        teacher: ClassVar[TeacherConfig] = TeacherConfig(name=START_TEACHER)
        training: Annotated[TrainConfig, FLATTENED] = field(default_factory=lambda: given.over(usual, "training"))
        start: Annotated[StartConfig, FROM] = field(default_factory=lambda: weights)
        backbone: Any = field(default_factory=lambda: network)
        method_name: MethodName = chosen.name
        """Distillation method; `limbeck methods` lists them."""
        method: DistillConfig = field(default_factory=lambda: chosen)
        optim: OptimConfig = field(default_factory=lambda: given.over(default_optim("", True, has_start=True), "optim"))

    return AdaptArgs


def _settings(argv: Sequence[str], verb: Verb | None = None) -> ConfigFile:
    """Return the settings of the file or the recipe that `argv` names, which has to be one for `verb`."""
    path, recipe = peek(argv, "--config"), peek(argv, "--recipe")
    if path and recipe:
        raise UserError(f"--config '{path}' and --recipe '{recipe}' are both given: leave one out", code="two-sources")
    if recipe:
        return recipe_file(recipe, verb)
    return _config_file(path) if path else NO_FILE


def _config_file(path: str) -> ConfigFile:
    from limbeck.runs.config import RunConfig

    return ConfigFile.read(path, [f.name for f in dataclasses.fields(RunConfig)])


def _method(
    argv: Sequence[str], file: ConfigFile, default: str, choose: Callable[[str], type["MethodConfig"]]
) -> "MethodConfig":
    """Return the chosen method's configuration, with the chosen host in it, over the file's values."""
    from limbeck.methods import HostConfig

    method: Any = choose(peek(argv, "--method") or file.name_in("method") or default)()
    host = peek(argv, "--method.host") or (file.name_in("method", "host") if hasattr(method, "host") else None)
    if host is not None:
        if not hasattr(method, "host"):
            raise UserError(f"method '{method.name}' is not built on a host: leave --method.host out", code="no-host")
        method = dataclasses.replace(method, host=HostConfig.choose(host)())
    chosen: MethodConfig = file.over(method, "method", named=True)
    return chosen


def _encoder(argv: Sequence[str], file: ConfigFile, flag: str) -> "EncoderConfig | None":
    """Return the configuration of the named network, whose dataclass has the flags of its modality; None unnamed.

    A start names its own network, with everything that it states about it.
    """
    from limbeck.modalities import default_config

    name = peek(argv, flag) or file.name_in("backbone")
    if start := _start(argv, file).name:
        from limbeck.models.config import StartConfig
        from limbeck.models.start import is_file

        if not (name and is_file(start)):
            form: EncoderConfig = _modality(argv, file).start_encoder(StartConfig(name=start))
            return form if name in (None, form.name) else default_config(name)
    return default_config(name) if name else None


def _start(argv: Sequence[str], file: ConfigFile) -> "StartConfig":
    """Return the weights to start from, with an empty name if there are none."""
    from limbeck.models.config import StartConfig

    return file.over(StartConfig(name=peek(argv, "--from") or file.name_in("start") or ""), "start", named=True)


def _runs_small(argv: Sequence[str], file: ConfigFile) -> bool:
    """Return whether a run takes a small network and a cheap method unless it names others."""
    from limbeck.runs.defaults import runs_small

    accelerator = peek(argv, "--accelerator") or file.over(TrainConfig(), "training").accelerator
    return bool(runs_small(accelerator, has_flag(argv, "--quick")))


def _default_encoder(argv: Sequence[str], file: ConfigFile, small: bool) -> "EncoderConfig":
    """Return the configuration of the network of a run that names none; what the images decide is left open."""
    modality = _modality(argv, file)
    encoder: EncoderConfig = modality.small_encoder().value if small else modality.default_encoder()
    return encoder


def _modality(argv: Sequence[str], file: ConfigFile, flag: str = "") -> "Modality[Any, Any]":
    """Return the modality of the network that `flag` or the file names, of a method for one alone, or of the source."""
    from limbeck.methods import method_config
    from limbeck.modalities import find_modality

    name = (peek(argv, flag) if flag else None) or (file.name_in("backbone") if flag else None)
    if name:
        return find_modality(encoder=name)
    method = peek(argv, "--method") or file.name_in("method")
    only = method_config(method).only_on if method else None
    return find_modality(_early_source(argv, file), only=only[0] if only else "")


def _unnamed(
    argv: Sequence[str], file: ConfigFile, usual: "MethodConfig", chosen: "MethodConfig", optim: "OptimConfig"
) -> dict[str, Any]:
    """Return method and optimizer under their fields if neither the command line nor the file names a method."""
    named = peek(argv, "--method") or file.name_in("method") or chosen != usual or "optim" in file
    return {} if named else {"method": chosen, "optim": optim}


def _early_source(argv: Sequence[str], file: ConfigFile) -> str | None:
    """Return the source if it comes before all flags, else that of the file: it decides the modality."""
    return argv[0] if argv and not argv[0].startswith("-") else file.text("store")
