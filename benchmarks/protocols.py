"""The protocols of docs/evaluation.md at every depth of networks, beside the same networks untrained, and raw pixels.

    python -m benchmarks.protocols cifar10/train.parquet cifar10/test.parquet runs/a models/lite0 --images 5000 2000

Takes the first images of both sources. A network is a run, an encoder or a timm export; it is compared with the same
network at its random start (seed 0). Prints a table for each network, and one of raw pixels and patch filters.
"""

import argparse
from collections.abc import Sequence

import torch

from limbeck.data.store.open import open_store
from limbeck.data.store.store import Store
from limbeck.evaluation.config import EvaluateConfig
from limbeck.evaluation.evaluator import evaluate
from limbeck.evaluation.metric import UNTRAINED, Values
from limbeck.evaluation.metrics import all_columns
from limbeck.models.backbone import build_backbone
from limbeck.models.encoder_io import load, load_preprocessing

COLUMNS = (
    *(
        "knn",
        "knn_top5",
        "linear",
        "linear_top5",
        "retrieval_map",
        "recall_1",
        "few_shot_1",
        "few_shot_5",
        "copies_strong",
        "copies_crops",
        "copies_whitened",
    ),
    *("exit_accuracy", "exit_gflops", "exit_share", "gflops"),
)


def first(source: str, count: int) -> Store:
    """Return the first images of a source."""
    store = open_store(source)
    return Store.from_arrays(store.images[:count], store.labels[:count], store.label_names)


def show(rows: dict[str, Values]) -> None:
    """Print a table with a row for every set of values; those of the untrained network stand in brackets."""
    columns = [column for column in all_columns() if column.name in COLUMNS]
    print("| | " + " | ".join(column.title for column in columns) + " |")
    print("|---" * (len(columns) + 1) + "|")
    for name, values in rows.items():
        cells = []
        for column in columns:
            before = values.get(UNTRAINED + column.name)
            cells.append(column.text(values.get(column.name)) + (f" ({column.text(before)})" if before else ""))
        print(f"| {name} | {' | '.join(cells)} |", flush=True)


def main(argv: Sequence[str] | None = None) -> None:
    """Evaluate every network of the command line."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("train")
    parser.add_argument("test")
    parser.add_argument("networks", nargs="+")
    parser.add_argument("--images", nargs=2, type=int, default=(5000, 2000))
    parser.add_argument("--alone", action="store_true", help="leave out untrained networks, pixels and patch filters")
    args = parser.parse_args(argv)
    train, test = (first(source, count) for source, count in zip((args.train, args.test), args.images, strict=True))
    for number, name in enumerate(args.networks):
        cfg = EvaluateConfig(latency=False, copies=True, references=number == 0 and not args.alone, precision="fp32")
        backbone, how = load(name), load_preprocessing(name)
        torch.manual_seed(0)
        untrained = None if args.alone else build_backbone(backbone.cfg)
        result = evaluate(backbone, train, test, cfg, preprocessing=how, reference=untrained)
        print(f"\n{name}: {backbone.cfg.name}, {how.image_size} pixels\n")
        show({f"layer {layer.depth}": layer.values for layer in result.layers})
        if result.references and number == 0:
            print()
            show({model.name: model.values for model in result.references})


if __name__ == "__main__":
    main()
