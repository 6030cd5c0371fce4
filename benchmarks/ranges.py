"""Does a student whose range was bounded while it was distilled (`--method.range`) keep more neighbors in int8?

    python -m benchmarks.ranges train.parquet test.parquet --teacher models/lite0

Every student is distilled by SimReg for each bound (0: none) and seed, with the same images, steps and cached vectors
of the teacher, and exported for ONNX in int8: as `limbeck export` does it, and by ONNX Runtime alone ("plain", as in
benchmarks/exports.py). Prints the peak-to-RMS and the kurtosis that health read at the end (docs/health.md), the
share of the 10 nearest neighbors that each file keeps of those in fp32, and the 20-NN accuracies of one half of the
images of the proof in the other.
"""

import argparse
import csv
import logging
import time
from pathlib import Path
from tempfile import TemporaryDirectory

import torch

from benchmarks.cifar10_methods import QUARTER
from benchmarks.exports import plain_int8
from limbeck.data.store.open import open_store
from limbeck.exports.examples import split_examples
from limbeck.exports.export_source import load_source
from limbeck.exports.onnx_file import open_onnx, write_onnx
from limbeck.exports.proof import features_of, prove
from limbeck.exports.reduced import Reduction, reduce
from limbeck.exports.smooth import smooth
from limbeck.methods.config.simreg import SimRegConfig
from limbeck.models.config import BackboneConfig
from limbeck.runs.api import distill
from limbeck.teachers.config import TeacherConfig
from limbeck.train.config import OptimConfig, TrainConfig

VIT = {"patch_size": 4, "embed_dim": 96, "depth": 6, "num_heads": 3}
STUDENTS = {
    "resnet": BackboneConfig(name="resnet18", image_size=32, args=QUARTER),
    "mobilenet": BackboneConfig(name="mobilenetv3_small_050", image_size=32),
    "vit": BackboneConfig(image_size=32, args=VIT),
}


def train(student: str, bound: float, seed: int, args: argparse.Namespace) -> Path:
    """Return the run of a student, distilled unless it is there."""
    run = Path(args.out) / f"{student}-{bound:g}-{seed}"
    if not (run / "health.json").exists():
        distill(
            args.train,
            run,
            teacher=TeacherConfig(name=args.teacher, image_size=96, targets="image", cache=f"{args.out}/teacher"),
            student=STUDENTS[student],
            method=SimRegConfig(range=bound or None),
            optim=OptimConfig(lr=2e-3, weight_decay=0.01),
            training=TrainConfig(epochs=args.epochs, batch_size=128, seed=seed, eval_every_epochs=0),
        )
    return run


def row(student: str, bound: float, seed: int, args: argparse.Namespace) -> str:
    """Return the row of a run."""
    start = time.process_time()
    run = train(student, bound, seed, args)
    seconds = time.process_time() - start
    with (run / "metrics.csv").open(newline="", encoding="utf-8") as file:
        last = list(csv.DictReader(file))[-1]
    shares = _shares(run, args.test)
    cells = [student, f"{bound:g}" if bound else "none", str(seed), f"{seconds:.0f}"]
    cells += [f"{float(last['loss']):.3f}", f"{float(last['peak_to_rms']):.1f}", f"{float(last['kurtosis']):.1f}"]
    return f"| {' | '.join([*cells, *(f'{share:.1%}' for share in shares)])} |"


@torch.no_grad()
def _shares(run: Path, images: str) -> list[float]:
    """Return the neighbors that int8 and plain int8 keep, then the accuracies in fp32, int8 and plain int8."""
    source = load_source(run, None, fold=False)
    how, network = source.preprocessing, source.network
    examples = split_examples(open_store(images, None, how.store_size), how, fold=False)
    expected, labels = features_of(network, examples.proof), torch.cat([found for _, found in examples.proof])
    with TemporaryDirectory() as folder:
        path, plain = Path(folder) / "model.onnx", Path(folder) / "plain.onnx"
        write_onnx(network, examples.proof[0][0][:2], path)
        plain_int8(path, plain, examples)
        smooth(network, examples.calibration)
        layers = write_onnx(network, examples.proof[0][0][:2], path)
        ours = reduce(path, layers, network, examples, Reduction(precision="int8", keep=0.0, mixed=False))[1]
        alone = prove(features_of(open_onnx(plain), examples.proof), expected, labels)
    accuracies = (ours.fp32_knn, ours.knn, alone.knn)
    return [ours.neighbors, alone.neighbors, *(accuracy or 0.0 for accuracy in accuracies)]


def main() -> None:
    """Print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("train", help="images to distil on")
    parser.add_argument("test", help="labeled images to calibrate on and to compare with")
    parser.add_argument("--teacher", required=True, help="EfficientNet-Lite0, or any teacher")
    parser.add_argument("--students", nargs="+", default=[*STUDENTS], choices=[*STUDENTS])
    parser.add_argument("--bounds", nargs="+", type=float, default=[0, 4])
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1])
    parser.add_argument("--epochs", type=float, default=5)
    parser.add_argument("--out", default="runs/ranges")
    args = parser.parse_args()
    logging.disable(logging.WARNING)
    torch.set_num_threads(1)
    heads = ("student", "range", "seed", "CPU s", "loss", "peak-to-RMS", "kurtosis", "int8 keeps", "plain keeps")
    print(f"| {' | '.join([*heads, '20-NN fp32', 'int8', 'plain'])} |\n|{'---|' * (len(heads) + 3)}")
    for student in args.students:
        for bound in args.bounds:
            for seed in args.seeds:
                print(row(student, bound, seed, args), flush=True)


if __name__ == "__main__":
    main()
