"""Kill a chain of commands at random moments, and compare every file with a chain that nobody killed.

    python -m benchmarks.chain --kills 10 --work build/chain

The chain: an encoded store by local workers, its near-duplicates by local workers, the embeddings of a small run.
SIGKILL goes to the command itself after a random part of the time that it takes undisturbed; its workers end with it.
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

from tests.helpers.kills import VIT

IMAGES = 400
NETWORK = ["--method", "simclr", "--backbone", "vit_tiny_patch16_224", "--backbone.args", VIT, "--epochs", "1"]


def write_source(work: Path) -> Path:
    """Write noisy images of 32 px, of which every tenth is nearly a copy of the one before."""
    draw = np.random.default_rng(0)
    coarse = draw.integers(0, 256, (IMAGES, 8, 8, 3), dtype=np.uint8)
    coarse[9::10] = coarse[8::10]
    images = coarse.repeat(4, axis=1).repeat(4, axis=2) // 2 + draw.integers(0, 9, (IMAGES, 32, 32, 3), dtype=np.uint8)
    np.save(work / "images.npy", images.astype(np.uint8))
    return work / "images.npy"


def chain(source: Path, place: Path, run: Path) -> list[list[str]]:
    """Return the commands of a chain that writes into a folder."""
    store, local = str(place / "store"), ["--runner", "local", "--workers", "2"]
    return [
        ["store", str(source), store, "--keep", "webp", *local],
        ["check", store, "--near-duplicates", "--similarity-threshold", "0.9", "--out", str(place / "check"), *local],
        ["embed", store, "--with", str(run), "--out", str(place / "vectors.npy"), "--batch-size", "32"],
    ]


def call(command: list[str], place: Path, seconds: float | None = None) -> tuple[int, float]:
    """Run a command, killed after some seconds; return its exit status and how long it took."""
    variables = os.environ | {"XDG_CACHE_HOME": str(place / "cache"), "OMP_NUM_THREADS": "1"}
    words = [sys.executable, "-c", SMALL_SHARDS, *command]
    began = time.monotonic()
    with (place / "log").open("a") as log:
        process = subprocess.Popen(words, env=variables, stdout=log, stderr=log)
        try:
            status = process.wait(seconds)
        except subprocess.TimeoutExpired:
            process.kill()
            status = process.wait()
    return status, time.monotonic() - began


SMALL_SHARDS = """
import sys
from limbeck.cli import main
from limbeck.data.store import shards
from limbeck.neighbors import shards as rows, thumbnail_shards
shards.SHARD = rows.SHARD = thumbnail_shards.SHARD = 40
main(sys.argv[1:])
"""


def content(place: Path) -> dict[str, str]:
    """Return a digest of every file that a chain leaves, but of logs and of pages that name their place."""
    left_out = {"log", "journal.jsonl", "check.html"}
    return {
        file.relative_to(place).as_posix(): blake2b(file.read_bytes(), digest_size=8).hexdigest()
        for file in sorted(place.rglob("*"))
        if file.is_file() and file.name not in left_out and not file.name.endswith(".lock")
    }


def forget(place: Path, verb: str) -> None:
    """Remove what a command of the chain has written."""
    for name in {"store": ["store"], "check": ["check", "cache"], "embed": ["vectors.npy", "vectors.csv", "cache"]}[
        verb
    ]:
        path = place / name
        shutil.rmtree(path, ignore_errors=True) if path.is_dir() else path.unlink(missing_ok=True)


def main() -> None:
    """Run one chain undisturbed and one with kills."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=10)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--work", type=Path, default=Path("build/chain"))
    args = parser.parse_args()
    shutil.rmtree(args.work, ignore_errors=True)
    whole, killed = args.work / "whole", args.work / "killed"
    whole.mkdir(parents=True)
    killed.mkdir()
    source, run, chance = write_source(args.work), args.work / "run", random.Random(args.seed)
    status, _ = call(["pretrain", str(source), "--out", str(run), *NETWORK], args.work)
    assert status == 0, (args.work / "log").read_text()
    done = 0
    for number, (first, second) in enumerate(zip(chain(source, whole, run), chain(source, killed, run), strict=True)):
        status, seconds = call(first, whole)
        assert status == 0, (whole / "log").read_text()
        left = args.kills // 3 + (number < args.kills % 3)
        while left:
            status, lived = call(second, killed, chance.uniform(0.2, 0.9) * seconds)
            print(f"{first[0]}: {'killed' if status == -9 else 'had ended'} after {lived:.1f} s", flush=True)
            left, done = left - (status == -9), done + (status == -9)
            if status == 0:  # before its time came, which counts as nothing: again from the first shard
                forget(killed, first[0])
                seconds = min(seconds, lived)
        status, _ = call(second, killed)
        assert status == 0, (killed / "log").read_text()
    one, other = content(whole), content(killed)
    differing = sorted(name for name in one.keys() | other.keys() if one.get(name) != other.get(name))
    print(f"{done} kills; {len(one)} files, different: {differing or 'none'}")


if __name__ == "__main__":
    main()
