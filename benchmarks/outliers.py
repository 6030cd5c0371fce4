"""How well planted defects are found: photographs with a small patch of another photograph, against whole ones.

    python -m benchmarks.outliers photos/ --with models/lite0 --seeds 3

A seed divides the photographs in halves: one is normal, of the other every image is scored as it is and with a square
of another photograph (`--side` of its side) at a random place. Prints, for vectors and for patches at every depth, the
area under the ROC curve (mean and standard deviation over the seeds), and the share of defects whose most unusual place
is within the square or beside it.
"""

import argparse
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import roc_auc_score

from limbeck.data.store.layout import Pixels
from limbeck.data.store.open import open_store
from limbeck.data.store.store import Store
from limbeck.downstream.anomalies.config import Compare, OutlierConfig
from limbeck.downstream.anomalies.source import Outliers, find_outliers
from limbeck.embeddings.encoders import load_encoder

Corners = NDArray[np.int64]


def plant(images: Pixels, side: int, seed: int) -> tuple[Pixels, Corners]:
    """Return the images with a square of the next one each, and the corners [N 2] of the squares."""
    random = np.random.default_rng(seed)
    corners = random.integers(0, images.shape[1] - side + 1, (len(images), 2))
    planted = images.copy()
    for row, (y, x) in enumerate(corners):
        other = images[(row + 1) % len(images)]
        planted[row, y : y + side, x : x + side] = other[y : y + side, x : x + side]
    return planted, corners


def found_places(found: Outliers, corners: Corners, side: int) -> float:
    """Return the share of the last images whose most unusual place is not beyond one place of the square."""
    assert found.maps is not None
    maps = found.maps[-len(corners) :]
    scale = found.store.size / maps.shape[1]
    places = np.stack(np.unravel_index(maps.reshape(len(maps), -1).argmax(axis=1), maps.shape[1:]), axis=1)
    middles = (places + 0.5) * scale
    inside = (middles > corners - scale) & (middles < corners + side + scale)
    return float(inside.all(axis=1).mean())


def main(argv: Sequence[str] | None = None) -> None:
    """Print a table."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("photos")
    parser.add_argument("--with", dest="encoder", required=True)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--side", type=float, default=0.25)
    parser.add_argument("--depths", nargs="+", type=int, help="for patches; by default all")
    args = parser.parse_args(argv)
    network = load_encoder(args.encoder, "fp32")
    images = np.asarray(open_store(args.photos, store_size=network.store_size).images)
    side = round(args.side * images.shape[1])
    print("| compared | depth | AUROC | place found |\n|---|---|---|---|")
    kinds: list[tuple[Compare, int]] = [
        ("images", network.last),
        *(("patches", depth) for depth in args.depths or network.dims),
    ]
    for compare, depth in kinds:
        areas, places = [], []
        for seed in range(args.seeds):
            order = np.random.default_rng(seed).permutation(len(images))
            normal, whole = images[order[: len(order) // 2]], images[order[len(order) // 2 :]]
            planted, corners = plant(whole, side, seed)
            scored = Store.from_arrays(np.concatenate([whole, planted]))
            cfg = OutlierConfig(compare=compare, seed=seed)
            found = find_outliers(scored, network, cfg, normal=Store.from_arrays(normal), depth=depth)
            areas.append(roc_auc_score(np.repeat([0, 1], len(whole)), found.scores))
            places.append(found_places(found, corners, side) if compare == "patches" else np.nan)
        place = "-" if compare == "images" else f"{100 * np.mean(places):.0f} ± {100 * np.std(places):.0f} %"
        print(f"| {compare} | {depth} | {np.mean(areas):.3f} ± {np.std(areas):.3f} | {place} |", flush=True)


if __name__ == "__main__":
    main()
