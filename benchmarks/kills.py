"""Kills runs at random moments, resumes them, and compares each bit for bit with an uninterrupted run.

    python -m benchmarks.kills --runs 20

tests/helpers/kills.py kills and compares them. Half of the runs are killed again.
"""

import argparse
import random
from collections import Counter
from pathlib import Path
from tempfile import TemporaryDirectory

from tests.helpers.kills import METHODS, choose, differences, kill_and_resume, run, write_store

MOMENTS = ("step", "checkpoint", "evaluation", "row", "encoder", "start", "checkpoint")


def main() -> None:
    """Kill `--runs` runs and print how many of them ended equal."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    chance, killed, equal = random.Random(args.seed), Counter[str](), 0
    with TemporaryDirectory() as name:
        folder = Path(name)
        store, log = write_store(folder), folder / "log"
        lives = {}
        for method, options in METHODS.items():
            code, lives[method] = run(["pretrain", str(store), "--out", str(folder / method), *options], log)
            assert code == 0, log.read_text()
        trial = done = 0
        while done < args.runs:
            method = list(METHODS)[trial % len(METHODS)]
            first, second = MOMENTS[trial % len(MOMENTS)], chance.choice(MOMENTS)
            kills = [choose(lives[method], moment, chance) for moment in (first, second)[: 1 + trial % 2]]
            out = folder / f"run{trial}"
            ended = kill_and_resume(out, ["pretrain", str(store), "--out", str(out), *METHODS[method]], kills, log)
            trial += 1
            if not ended:  # before its signal came: it does not count
                continue
            killed.update(ended)
            differing = differences(folder / method, out)
            done, equal = done + 1, equal + (not differing)
            print(f"{method}, killed in {' and '.join(ended)}: {differing or 'equal'}", flush=True)
    print(f"{equal} of {args.runs} equal; kills in " + ", ".join(f"{m} {n}" for m, n in sorted(killed.items())))


if __name__ == "__main__":
    main()
