"""Keypoints of rendered people: detectors on depth and on RGB, and whether a teacher of depth helps one on RGB.

    python benchmarks/rendered_people.py people        # in an environment with pybullet
    OMP_NUM_THREADS=1 python -m benchmarks.keypoints people out/ --seeds 2

For every seed AutoLink trains a detector on depth and one on RGB; the one on depth then teaches four students on RGB
(dkp): from its own weights and from random ones, with and without the distance of the maps. Printed are mean distances
of the annotated joints of held-out clips from what a linear regression makes of the keypoints, in percent of the side
of the image, as means over the seeds with the standard deviation, and the lines of reference. What is finished is in
`out` and neither trained nor measured again.
"""

import argparse
import json
from pathlib import Path
from statistics import mean, stdev
from typing import Any

import torch

import limbeck
from limbeck.data.store.layout import DepthValues
from limbeck.evaluation.config import EvaluateConfig
from limbeck.evaluation.references import MEAN_POSE, SUPERVISED
from limbeck.keypoints.config import DetectorConfig

SIDE, POINTS, WIDTH = 64, 8, 12
BATCH = 8
LEARNING_RATE = 0.032  # per 256 images: 1e-3 at this batch
ERROR = "keypoint_error"
STUDENTS: dict[str, dict[str, Any]] = {
    "from the teacher": {"method_weight": 1.0},
    "from the teacher, weight 0": {"method_weight": 0.0},
    "from random weights": {"method_weight": 1.0, "method_start": "random"},
}


class Bench:
    """Folders and settings of all runs, and what was measured of them."""

    def __init__(self, people: Path, out: Path, steps: int) -> None:
        self.people, self.out, self.steps = people, out, steps
        self.file = out / "errors.json"
        self.errors: dict[str, dict[str, float]] = json.loads(self.file.read_text()) if self.file.is_file() else {}

    def store(self, part: str, kind: str) -> Path:
        """Return the store of `part` (train, test) in RGB or depth."""
        out = self.out / f"{part}-{kind}"
        if not out.is_dir():
            depth: DepthValues | None = "distance" if kind == "depth" else None
            limbeck.build_store(self.people / part / kind, out, store_size=SIDE, depth=depth)
        return out

    def run(self, name: str, kind: str, seed: int, method: str, **options: Any) -> Path:
        """Return the folder of a run, which is trained unless it is there."""
        run, store = self.out / f"{name}-{seed}".replace(", ", "-").replace(" ", "-"), self.store("train", kind)
        if not (run / "encoder").is_dir():
            images = sum(1 for _ in (self.people / "train" / kind).glob("*.png"))
            network = DetectorConfig(keypoints=POINTS, image_size=SIDE, width=WIDTH)
            limbeck.pretrain(
                store, run, method=method, backbone=network, seed=seed, batch_size=BATCH, optim_lr=LEARNING_RATE,
                epochs=self.steps / (images // BATCH), precision="fp32", log_every_steps=self.steps, **options,
            )  # fmt: skip
        return run

    def measure(self, run: Path, kind: str) -> dict[str, float]:
        """Return the errors of a run on RGB or depth, of its network untrained, and of the references, in percent."""
        name = f"{run.name} on {kind}"
        if name not in self.errors:
            train, test = (str(self.people / part / "rgb" / "keypoints.csv") for part in ("train", "test"))
            cfg = EvaluateConfig(train_keypoints=train, test_keypoints=test, latency=False)
            result = limbeck.evaluate(run, self.store("train", kind), self.store("test", kind), cfg)
            values = result.layers[-1].values
            found = {"trained": values[ERROR], "untrained": values[f"untrained_{ERROR}"]}
            found |= {scores.name: scores.values.get(ERROR) for scores in result.references}
            self.errors[name] = {key: 100 * value for key, value in found.items() if value is not None}
            self.file.write_text(json.dumps(self.errors, indent=1))
        return self.errors[name]


def lines(bench: Bench, seed: int) -> dict[str, float]:
    """Return the error of every line of a seed, in percent."""
    teacher = bench.run("depth", "depth", seed, "autolink")
    on_depth, moved = bench.measure(teacher, "depth"), bench.measure(teacher, "rgb")
    alone = bench.measure(bench.run("rgb", "rgb", seed, "autolink"), "rgb")
    found = {
        MEAN_POSE: on_depth[MEAN_POSE],
        f"depth, {SUPERVISED}": on_depth[SUPERVISED],
        "depth, untrained": on_depth["untrained"],
        "depth, AutoLink: the teacher": on_depth["trained"],
        f"RGB, {SUPERVISED}": alone[SUPERVISED],
        "RGB, untrained": alone["untrained"],
        "RGB, AutoLink": alone["trained"],
        "RGB, the teacher as it is": moved["trained"],
    }
    for name, options in STUDENTS.items():
        student = bench.run(
            name, "rgb", seed, "dkp", companion=bench.store("train", "depth"), method_teacher=str(teacher), **options
        )
        found[f"RGB, student {name}"] = bench.measure(student, "rgb")["trained"]
    return found


def main() -> None:
    """Train, measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("people", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--steps", type=int, default=200)
    args = parser.parse_args()
    torch.set_num_threads(1)
    args.out.mkdir(parents=True, exist_ok=True)
    bench = Bench(args.people, args.out, args.steps)
    results = [lines(bench, seed) for seed in range(args.seeds)]
    print("| line | error, % of the side | each seed |\n|---|---|---|")
    for name in results[0]:
        values = [result[name] for result in results]
        each = ", ".join(f"{value:.2f}" for value in values)
        spread = f" ({stdev(values):.2f})" if len(values) > 1 else ""
        print(f"| {name} | {mean(values):.2f}{spread} | {each} |")


if __name__ == "__main__":
    main()
