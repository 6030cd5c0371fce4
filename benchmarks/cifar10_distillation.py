"""Every distiller with the same teacher, student and computing time: CIFAR-10, ResNet-18 of a quarter of its width.

    limbeck store cifar10/train.parquet runs/c10/train
    limbeck store cifar10/test.parquet runs/c10/test
    python -m benchmarks.cifar10_distillation runs/c10/train runs/c10/test --weights lite0.safetensors --minutes 8

The teacher is EfficientNet-Lite0, trained on ImageNet with labels, with images at 144 pixels; its features of two
draws of two weak views (crop and flip) are cached once and shared by all. A method gets `--minutes` of processor time
of one thread (a few steps are timed first, and the run is as long as fits; start and last evaluation come on top), with
AdamW, batches of 256 and queues of 4,096; `alone` is SimCLR without a teacher. Runs that are complete are not
repeated. Prints, of the last layer, 20-NN, linear, neighbors preserved (of 10, on the test images), linear CKA and
effective rank; then the same of the teacher.
"""

import argparse
import dataclasses
import tempfile
import time
from itertools import pairwise
from pathlib import Path
from statistics import median
from typing import Any
from unittest.mock import patch

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from benchmarks.cifar10_methods import BATCH, QUARTER, small
from limbeck.data.augment.views import IMAGENET_MEAN, IMAGENET_STD
from limbeck.data.store.store import Store
from limbeck.evaluation.probes import SGDProbe, fit
from limbeck.features.extract import extract
from limbeck.features.images import eval_images
from limbeck.methods import DistillConfig, distill_config, method_config, method_names
from limbeck.metrics.fidelity import fidelity
from limbeck.metrics.knn import knn_accuracy
from limbeck.metrics.representation import effective_rank
from limbeck.models.backbone import Backbone
from limbeck.models.config import BackboneConfig
from limbeck.models.encoder_io import load
from limbeck.runs.api import distill, pretrain
from limbeck.teachers.cache import FeatureCache
from limbeck.teachers.config import TeacherConfig
from limbeck.teachers.frozen import LoadedTeacher, teacher_features
from limbeck.teachers.load import load_teacher
from limbeck.train.config import OptimConfig, TrainConfig
from limbeck.train.step import StepResult, StepRunner

CPU = torch.device("cpu")
HALF = (0.5, 0.5, 0.5)
STUDENT = BackboneConfig(name="resnet18", image_size=32, args=QUARTER)
OPTIM = OptimConfig(lr=2e-3, weight_decay=0.01)


def arms() -> dict[str, DistillConfig]:
    """Return every distiller, CompRess with two queues too, all with weak views and a queue of 4,096."""
    found: dict[str, DistillConfig] = {}
    for name in method_names():
        if issubclass(method_config(name), DistillConfig):
            config = dataclasses.replace(distill_config(name)(), views="weak")
            queue = {"queue": 4096} if hasattr(config, "queue") else {}
            found[name] = dataclasses.replace(config, **queue)  # type: ignore[arg-type]
    found["compress-2q"] = dataclasses.replace(found["compress"], num_queues=2, ema_momentum=0.99)  # type: ignore[call-arg]
    return found


def train(name: str, run: Path, epochs: float, args: argparse.Namespace) -> float:
    """Train, and return the processor seconds that it took, start included."""
    start = time.process_time()
    length = TrainConfig(epochs=epochs, batch_size=BATCH, seed=args.seed, eval_every_epochs=0)
    if name == "alone":
        method = small(method_config("simclr")())
        pretrain(args.train, run, method=method, backbone=STUDENT, optim=OPTIM, training=length)
    else:
        method = arms()[name]
        distill(args.train, run, teacher=teacher(args), method=method, student=STUDENT, optim=OPTIM, training=length)
    return time.process_time() - start


def seconds_per_step(name: str, epoch: int, args: argparse.Namespace) -> float:
    """Return the processor seconds from the end of a step to the end of the next: the median of a run of 16."""
    ends: list[float] = []
    train_step = StepRunner.train_step

    def note(self: StepRunner, *given: Any, **named: Any) -> StepResult:
        result = train_step(self, *given, **named)
        ends.append(time.process_time())
        return result

    with tempfile.TemporaryDirectory() as folder, patch.object(StepRunner, "train_step", note):
        train(name, Path(folder) / "run", 16 / epoch, args)
    return median(b - a for a, b in pairwise(ends[2:]))


def teacher(args: argparse.Namespace) -> TeacherConfig:
    """Return EfficientNet-Lite0 at 144 pixels."""
    return TeacherConfig(
        name="tf_efficientnet_lite0",
        weights=args.weights,
        image_size=144,
        mean=HALF,
        std=HALF,
        cached_views=2,
        cache=args.cache,
    )


def line(name: str, train: Tensor, test: Tensor, of_teacher: Tensor, stores: tuple[Store, Store]) -> str:
    """Return a row of the table, from features of all training and all test images."""
    labels = [torch.from_numpy(np.array(store.labels)) for store in stores]
    probe = SGDProbe(epochs=20, batch_size=1024, lr=0.1, seed=0)
    heads = fit(probe, {0: train}, labels[0], 10, CPU)
    accuracies = knn_accuracy(train, labels[0], test, labels[1]), heads.accuracy({0: test}, labels[1], 1024)[0]
    found = fidelity(test, of_teacher)
    shown = " | ".join(f"{100 * value:.1f}" for value in (*accuracies, found.neighbor_agreement))
    return f"| {name} | {shown} | {found.cka:.3f} | {effective_rank(test):.1f} |"


def features(backbone: Backbone, store: Store) -> Tensor:
    """Return the features of the last layer, [N D]."""
    images = eval_images(store, 32, IMAGENET_MEAN, IMAGENET_STD, CPU)
    last = backbone.taps[-1]
    return extract(backbone, images, np.arange(len(store)), taps=(last,), device=CPU)[last]


def teacher_vectors(frozen: LoadedTeacher, stores: tuple[Store, Store], folder: Path) -> tuple[Tensor, Tensor]:
    """Return unit vectors of all training images, from the cache, and of all test images, from `folder`."""
    file = folder / "teacher.npy"
    if not file.exists():
        found = teacher_features(frozen, stores[1], np.arange(len(stores[1])), device=CPU)
        np.save(file, F.normalize(found, dim=1).numpy())
    train = FeatureCache(folder, frozen, stores[0], CPU).features()
    return torch.from_numpy(train.astype(np.float32)), torch.from_numpy(np.load(file))


def main() -> None:
    """Train and evaluate the chosen methods, and print a line for each."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("train", help="store to train on, and bank of the probes")
    parser.add_argument("test", help="store to test on")
    parser.add_argument("--weights", required=True, help="EfficientNet-Lite0 in timm's names, .safetensors")
    every = ["alone", *arms()]
    parser.add_argument("--methods", nargs="*", default=every, choices=every, metavar="METHOD")
    parser.add_argument("--minutes", type=float, default=8)
    parser.add_argument("--out", default="runs/distillation")
    parser.add_argument("--cache", default="runs/distillation/teacher")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    torch.set_num_threads(1)
    stores = Store.open(args.train), Store.open(args.test)
    of_train, of_test = teacher_vectors(load_teacher(teacher(args)), stores, Path(args.cache))
    epoch = (len(stores[0]) - 1000) // BATCH
    for name in args.methods:
        run = Path(args.out) / f"{name}-{args.seed}"
        if not (run / "encoder" / "config.json").exists():
            steps = round(60 * args.minutes / seconds_per_step(name, epoch, args))
            spent = train(name, run, steps / epoch, args)
            print(f"{name}, seed {args.seed}: {steps} steps in {spent:.0f} s of processor time", flush=True)
        student = load(run)
        train_features, test_features = (features(student, store) for store in stores)
        print(line(name, train_features, test_features, of_test, stores), flush=True)
    print(line("teacher", of_train, of_test, of_test, stores), flush=True)


if __name__ == "__main__":
    main()
