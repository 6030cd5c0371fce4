"""Kill a chain of commands at random moments, and compare every file with a chain that nobody killed.

    python -m benchmarks.chain --kills 10 --images 100000 --work build/chain

The chain: an encoded store, its near-duplicates, the embeddings of a small run, their neighbor graph, and a
distillation with bags, which asks the teacher for its answers, searches their neighbors and trains. Store,
near-duplicates and graph are made by two local workers. SIGKILL goes to the command itself after a random part of the
time that it takes undisturbed; its workers end with it. Both chains work in the same folder, one after the other.
"""

import argparse
import os
import random
import shutil
import subprocess
import sys
import time
from hashlib import blake2b
from pathlib import Path

import numpy as np

from tests.helpers.kills import TIMED, VIT, differences, next_command

BLOCK, TAUGHT = 4000, 400  # images that are made at a time; of the teacher
SMALL = 400  # images; up to so many, shards have a tenth of them
STUDENT = ["--student", "vit_tiny_patch16_224", "--student.args", VIT, "--method", "bingo", "--method.hidden", "64"]
TRAINING = ["--batch-size", "40", "--checkpoint-every-minutes", "0", "--log-every-steps", "2", "--precision", "fp32"]
UNFINISHED = {  # what a kill leaves, and what was going on then
    "pass-*/*.done": "blocks of a pass",
    "*.partial/*/images-*.bin": "shards of the store",
    ".shards/neighbors-*.npy": "shards of a graph",
    "*.unfinished": "half of a file",
}
LAUNCH = """
import sys
from limbeck.cli import main
from limbeck.data.store import shards
from limbeck.neighbors import shards as rows, thumbnail_shards
if shard := int(sys.argv[1]):
    shards.SHARD = rows.SHARD = thumbnail_shards.SHARD = shard
if sys.argv[2] == "graph":
    import numpy as np
    from limbeck.core.runners.run import RunnerConfig
    from limbeck.neighbors.graph import build_graph
    vectors, runner = np.load(sys.argv[3], mmap_mode="r"), RunnerConfig(runner="local", workers=2)
    build_graph(vectors, 5, search="exact", folder=sys.argv[4], digest="of the chain", runner=runner)
else:
    main(sys.argv[2:])
"""


def write_source(work: Path, count: int) -> Path:
    """Write noisy images of 32 px, of which every tenth is nearly a copy of the one before."""
    draw = np.random.default_rng(0)
    images = np.lib.format.open_memmap(work / "images.npy", mode="w+", dtype=np.uint8, shape=(count, 32, 32, 3))
    for start in range(0, count, BLOCK):
        coarse = draw.integers(0, 256, (min(BLOCK, count - start), 8, 8, 3), dtype=np.uint8)
        coarse[9::10] = coarse[8::10]
        noise = draw.integers(0, 9, (len(coarse), 32, 32, 3), dtype=np.uint8)
        images[start : start + BLOCK] = coarse.repeat(4, axis=1).repeat(4, axis=2) // 2 + noise
    np.save(work / "taught.npy", images[:TAUGHT])
    return work / "images.npy"


def chain(source: Path, place: Path, teacher: Path, images: int) -> list[list[str]]:
    """Return the commands of a chain that writes into a folder."""
    store, vectors, local = str(place / "store"), str(place / "vectors.npy"), ["--runner", "local", "--workers", "2"]
    few = ["--out", str(place / "run"), "--epochs", str(min(2.0, 4000 / images)), *STUDENT, *TRAINING]
    return [
        ["store", str(source), store, "--keep", "webp", *local],
        ["check", store, "--near-duplicates", "--similarity-threshold", "0.9", "--out", str(place / "check"), *local],
        ["embed", store, "--with", str(teacher), "--out", vectors, "--batch-size", "32"],
        ["graph", vectors, str(place / "graph")],
        ["distill", store, "--teacher", str(teacher), "--teacher.cached-views", "1", *few],
    ]


def call(command: list[str], place: Path, images: int, seconds: float | None = None) -> tuple[int, float]:
    """Run a command, killed after some seconds; return its exit status and how long it took."""
    variables = os.environ | {"XDG_CACHE_HOME": str((place / "cache").absolute()), "OMP_NUM_THREADS": "1"}
    words = [sys.executable, "-c", LAUNCH, str(images // 10 if images <= SMALL else 0), *command]
    began = time.monotonic()
    with (place / "log").open("w") as log:
        process = subprocess.Popen(words, env=variables, stdout=log, stderr=log)
        try:
            status = process.wait(seconds)
        except subprocess.TimeoutExpired:
            process.kill()
            status = process.wait()
    return status, time.monotonic() - began


def undisturbed(command: list[str], place: Path, images: int) -> float:
    """Run a command to its end and return how long it took."""
    status, seconds = call(command, place, images)
    assert status == 0, (place / "log").read_text()
    print(f"{command[0]}: {seconds:.1f} s", flush=True)
    return seconds


def disturbed(command: list[str], place: Path, images: int, kills: int, seconds: float, chance: random.Random) -> int:
    """Run a command that takes some seconds with so many kills, and then to its end; return the kills."""
    before, run = files_of(place), place / "run"
    left = kills
    while left:
        words = next_command(run, command) if command[0] == "distill" else command
        status, lived = call(words, place, images, chance.uniform(0.15, 0.9) * seconds)
        ended = "killed" if status == -9 else "had ended"
        print(f"{words[0]}: {ended} after {lived:.1f} s, {stage(place, words[0])}", flush=True)
        left -= status == -9
        if status == 0:  # before its time came, which counts as nothing: again from its start
            for name in files_of(place) - before:
                (place / name).unlink()
            shutil.rmtree(run, ignore_errors=True)
            seconds = min(seconds, lived)
    undisturbed(next_command(run, command) if command[0] == "distill" else command, place, images)
    return kills


def stage(place: Path, verb: str) -> str:
    """Return what a command was doing when it was killed, from what it left unfinished."""
    if (place / "run" / "checkpoint.ckpt").exists():
        return "which leaves a checkpoint"
    found = sorted({name for file in place.rglob("*") for name in UNFINISHED if file.match(name)})
    left = [UNFINISHED[name] for name in found]
    return f"which leaves {' and '.join(left)}" if left else f"between parts of {verb}"


def files_of(place: Path) -> set[str]:
    """Return the names of all files below a folder."""
    return {file.relative_to(place).as_posix() for file in place.rglob("*") if file.is_file()}


def content(place: Path) -> dict[str, str]:
    """Return a digest of every file that a chain leaves, but of logs, and of the run, which `differences` compares."""
    left_out = {"log", "journal.jsonl"}
    return {
        name: blake2b((place / name).read_bytes(), digest_size=8).hexdigest()
        for name in sorted(files_of(place))
        if Path(name).name not in left_out and not name.startswith("run/") and not name.endswith(".lock")
    }


def main() -> None:
    """Run one chain undisturbed and one with kills."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=10)
    parser.add_argument("--images", type=int, default=SMALL)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--work", type=Path, default=Path("build/chain"))
    args = parser.parse_args()
    work, images = args.work.absolute(), args.images
    shutil.rmtree(work, ignore_errors=True)
    place, whole = work / "chain", work / "whole"
    place.mkdir(parents=True)
    source, teacher, chance = write_source(work, images), work / "teacher", random.Random(args.seed)
    network = ["--backbone", "vit_tiny_patch16_224", "--backbone.args", VIT, "--epochs", "1"]
    undisturbed(["pretrain", str(work / "taught.npy"), "--out", str(teacher), "--method", "simclr", *network], place, 0)
    shutil.rmtree(place)
    place.mkdir()
    commands = chain(source, place, teacher, images)
    seconds = [undisturbed(command, place, images) for command in commands]
    place.rename(whole)
    place.mkdir()
    last = len(commands) - 1
    share = [args.kills // len(commands) + (last - number < args.kills % len(commands)) for number in range(last + 1)]
    done = sum(
        disturbed(command, place, images, kills, took, chance)
        for command, kills, took in zip(commands, share, seconds, strict=True)
    )
    one, other = content(whole), content(place)
    differing = sorted(name for name in one.keys() | other.keys() if one.get(name) != other.get(name))
    differing += [f"run: {name}" for name in differences(whole / "run", place / "run")]
    rows = f"weights, optimizer, and rows of metrics.csv but {' and '.join(sorted(TIMED))}"
    print(f"{done} kills; {len(one)} files and a run ({rows}), different: {differing or 'none'}")


if __name__ == "__main__":
    main()
