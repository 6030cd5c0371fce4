"""Render people with depth and joints from the motion clips of pybullet (PyPI `pybullet`, zlib), into a new folder.

    python benchmarks/rendered_people.py OUT [--size 64] [--copies 1]

It needs pybullet, numpy and Pillow alone, so that an environment of its own will do: pybullet has no part in Limbeck.
OUT gets `train` and `test`, split by clip; each has `rgb/CLIP-FRAME-COPY.png`, `rgb/keypoints.csv` (pixels of 14
joints) and `depth/CLIP-FRAME-COPY.png` (16 bits, millimeters). Colors of the parts, azimuth, place and patterned
background are drawn with a seed; the wall behind a person has a depth, but no pattern. These are rendered figures, and
no benchmark of people.
"""

import argparse
import csv
import json
import math
from pathlib import Path

import numpy as np
import pybullet  # type: ignore[import-not-found]
import pybullet_data  # type: ignore[import-not-found]
from PIL import Image

HELD_OUT = ("cartwheel", "jump", "kick", "walk")
JOINTS = (
    ("chest", 4), ("neck", 4), ("right_hip", 4), ("right_knee", 1), ("right_ankle", 4), ("right_shoulder", 4),
    ("right_elbow", 1), ("left_hip", 4), ("left_knee", 1), ("left_ankle", 4), ("left_shoulder", 4), ("left_elbow", 1),
)  # fmt: skip
"""Of a frame, after time step, place and orientation of the root, with their number of values."""
MARKED = (*(name for name, _ in JOINTS), "right_wrist", "left_wrist")
SCALE, NEAR, FAR, FIELD = 0.25, 0.1, 20.0, 45.0
DISTANCE = 3.2  # meters, of the camera
FINER = 2  # renders are so many times as large as images


def main() -> None:
    """Render all clips."""
    parser = argparse.ArgumentParser()
    parser.add_argument("out", type=Path)
    parser.add_argument("--size", type=int, default=64)
    parser.add_argument("--copies", type=int, default=1)
    args = parser.parse_args()
    pybullet.connect(pybullet.DIRECT)
    data = Path(pybullet_data.getDataPath())
    flags = pybullet.URDF_MAINTAIN_LINK_ORDER
    body = pybullet.loadURDF(str(data / "humanoid" / "humanoid.urdf"), globalScaling=SCALE, flags=flags)
    links = {pybullet.getJointInfo(body, index)[12].decode(): index for index in range(pybullet.getNumJoints(body))}
    rows: dict[str, list[list[object]]] = {"train": [], "test": []}
    for split in rows:
        for kind in ("rgb", "depth"):
            (args.out / split / kind).mkdir(parents=True)
    random = np.random.default_rng(0)
    for clip in sorted((data / "data" / "motions").glob("humanoid3d_*.txt")):
        name = clip.stem.removeprefix("humanoid3d_")
        split = "test" if name in HELD_OUT else "train"
        frames = json.loads(clip.read_text())["Frames"]
        for number, frame in enumerate(frames):
            root = pose(body, links, frame)
            for copy in range(args.copies):
                rgb, depth, places = shoot(body, links, root, args.size, random)
                file = f"{name}-{number:04d}-{copy}.png"
                Image.fromarray(rgb).save(args.out / split / "rgb" / file)
                Image.fromarray(depth).save(args.out / split / "depth" / file)
                rows[split].append([file, *places.ravel().round(3).tolist()])
        print(name, split, len(frames), flush=True)
    for split, found in rows.items():
        with (args.out / split / "rgb" / "keypoints.csv").open("w", newline="") as file:
            csv.writer(file).writerows([["path", *(f"{n}_{axis}" for n in MARKED for axis in "xy")], *found])


def pose(body: int, links: dict[str, int], frame: list[float]) -> np.ndarray:
    """Set the pose of a frame and return the place of the root; quaternions have w first there, and y is up."""
    upright = pybullet.getQuaternionFromEuler([math.pi / 2, 0, 0])
    place, turn = pybullet.multiplyTransforms([0, 0, 0], upright, frame[1:4], xyzw(frame[4:8]))
    pybullet.resetBasePositionAndOrientation(body, place, turn)
    at = 8
    for name, values in JOINTS:
        if values == 1:
            pybullet.resetJointState(body, links[name], frame[at])
        else:
            pybullet.resetJointStateMultiDof(body, links[name], xyzw(frame[at : at + 4]))
        at += values
    return np.array(place)


def xyzw(quaternion: list[float]) -> list[float]:
    """Return a quaternion with w last."""
    return [*quaternion[1:], quaternion[0]]


def shoot(
    body: int, links: dict[str, int], root: np.ndarray, size: int, random: np.random.Generator
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return an image [S S 3], depths [S S] in millimeters, and the joints [P 2] in pixels."""
    for link in (-1, *links.values()):
        pybullet.changeVisualShape(body, link, rgbaColor=[*random.uniform(0.1, 1, 3), 1])
    target = root + random.uniform(-0.12, 0.12, 3)
    view = pybullet.computeViewMatrixFromYawPitchRoll(
        target.tolist(), DISTANCE, random.uniform(0, 360), random.uniform(-20, 5), 0, 2
    )
    projection = pybullet.computeProjectionMatrixFOV(FIELD, 1, NEAR, FAR)
    side = FINER * size
    _, _, rgba, buffer, mask = pybullet.getCameraImage(
        side, side, view, projection, renderer=pybullet.ER_TINY_RENDERER, shadow=0
    )
    inside = np.reshape(mask, (side, side)) >= 0
    meters = NEAR * FAR / (FAR - (FAR - NEAR) * np.reshape(buffer, (side, side)))
    meters = np.where(inside, meters, DISTANCE + random.uniform(0.8, 1.6))
    person = np.reshape(rgba, (side, side, 4))[..., :3]
    rgb = np.where(inside[..., None], person, background(side, random))
    rgb = rgb.reshape(size, FINER, size, FINER, 3).mean(axis=(1, 3)).round().astype(np.uint8)
    depth = (1000 * meters[::FINER, ::FINER]).round().astype(np.uint16)
    states = pybullet.getLinkStates(body, [links[name] for name in MARKED])
    points = np.array([[*state[4], 1] for state in states])
    clip = points @ np.reshape(view, (4, 4)) @ np.reshape(projection, (4, 4))
    shown = clip[:, :2] / clip[:, 3:]
    return rgb, depth, (shown * [1, -1] + 1) / 2 * size


def background(side: int, random: np.random.Generator) -> np.ndarray:
    """Return a pattern of smooth noise and of rectangles [S S 3], in colors like those of a person."""
    coarse = random.uniform(0, 255, (int(random.integers(3, 12)),) * 2 + (3,)).astype(np.uint8)
    pattern = np.array(Image.fromarray(coarse).resize((side, side), Image.Resampling.BICUBIC), np.float64)
    for _ in range(int(random.integers(4, 12))):
        top, left = random.integers(0, side, 2)
        height, width = random.integers(side // 16, side // 3, 2)
        pattern[top : top + height, left : left + width] = random.uniform(25, 255, 3)
    return pattern


if __name__ == "__main__":
    main()
