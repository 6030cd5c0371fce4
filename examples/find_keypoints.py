"""Find keypoints without labels in figures that this file draws: train a detector, look at it, and export it.

    python examples/find_keypoints.py

Which keypoint follows which part is not known beforehand: `limbeck evaluate` finds it out where parts are annotated.
Takes about two minutes on two CPU cores.
"""

from pathlib import Path

import numpy as np
import onnxruntime
from PIL import Image, ImageDraw

import limbeck
from limbeck.keypoints.config import DetectorConfig

SIZE, FIGURES = 64, 320


def draw(random: np.random.Generator) -> Image.Image:
    """Return a stick figure with four limbs and a head, before a background of its own."""
    image = Image.new("RGB", (SIZE, SIZE), tuple(random.integers(0, 90, 3).tolist()))
    pen, body = ImageDraw.Draw(image), random.uniform(-6, 6, 2) + SIZE / 2
    color = tuple(random.integers(150, 255, 3).tolist())
    chest, hip, head = body - np.array([0, 8]), body + np.array([0, 8]), body - np.array([0, 15])
    pen.line([*chest, *hip], color, 3)
    for start, side in ((chest, -1), (chest, 1), (hip, -1), (hip, 1)):
        angle = random.uniform(0.2, 1.3) if start is hip else random.uniform(-0.8, 1.2)
        pen.line([*start, *(start + 14 * np.array([side * np.cos(angle), np.sin(angle)]))], color, 3)
    pen.ellipse([*(head - 4), *(head + 4)], color)
    return image


def main(out: Path = Path("out/keypoints"), epochs: float = 10) -> None:
    """Write figures, a run, its report and the exported detector into the folder `out`."""
    (out / "figures").mkdir(parents=True)
    random = np.random.default_rng(0)
    for number in range(FIGURES):
        draw(random).save(out / "figures" / f"{number:03d}.png")
    network = DetectorConfig(keypoints=6, image_size=SIZE, width=8)
    run = limbeck.pretrain(
        out / "figures", out / "run", method="autolink", backbone=network, epochs=epochs, batch_size=16, optim_lr=0.016
    )
    run.report(out / "report.html")  # the keypoints and their edges, drawn on twelve figures
    limbeck.embed(out / "figures", run, out / "keypoints.csv")  # row and column of every keypoint, from -1 to 1
    result = run.export(out / "onnx", format="onnx", fold_preprocessing=True)
    session = onnxruntime.InferenceSession(out / "onnx" / "model.onnx")
    (found,) = session.run(None, {"images": np.asarray(draw(random))[None]})
    print(f"a new figure, in pixels (largest difference from PyTorch {result.difference:.0e}):")
    print(((found.reshape(-1, 2) + 1) / 2 * (SIZE - 1)).round(1))


if __name__ == "__main__":
    main()
