"""One run in one process, with `--devices 2`, under torchrun, and under torchrun on two machines: what do they learn?

    python -m benchmarks.processes

The real commands on 250 real digits; the two machines are two torchruns on this one. Prints the largest difference of
a weight of the encoder from one process's, and from `--devices 2`.
"""

import os
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

from safetensors.torch import load_file
from torch import Tensor

from tests.helpers.kills import METHODS, write_store

TORCHRUN = [sys.executable, "-m", "torch.distributed.run"]
MEET = ["--master-addr", "127.0.0.1", "--master-port", "29541"]
LIMBECK = ["-m", "limbeck.cli"]
WAYS = {
    "one process": [[sys.executable, *LIMBECK]],
    "--devices 2": [[sys.executable, *LIMBECK]],
    "torchrun --nproc-per-node 2": [[*TORCHRUN, "--nproc-per-node", "2", *MEET, *LIMBECK]],
    "torchrun --nnodes 2, twice": [
        [*TORCHRUN, "--nnodes", "2", "--node-rank", str(node), "--nproc-per-node", "1", *MEET, *LIMBECK]
        for node in range(2)
    ],
}
FLAGS = dict(zip(WAYS, ([], ["--devices", "2"], ["--devices", "2"], ["--num-nodes", "2"]), strict=True))


def learn(way: str, options: list[str], store: Path, run: Path) -> dict[str, Tensor]:
    """Return the weights of the encoder that a way of starting `limbeck pretrain` ends with."""
    rest = ["pretrain", str(store), "--out", str(run), *options, *FLAGS[way]]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    started = [subprocess.Popen([*start, *rest], env=environment, stderr=subprocess.DEVNULL) for start in WAYS[way]]
    assert [process.wait() for process in started] == [0] * len(started)
    return load_file(run / "encoder" / "model.safetensors")


def furthest(one: dict[str, Tensor], other: dict[str, Tensor]) -> float:
    """Return the largest difference of a weight."""
    return max(float((one[name] - other[name]).abs().max()) for name in one)


def main() -> None:
    """Print a table for each of the methods that kills.py has."""
    with TemporaryDirectory() as name:
        store = write_store(Path(name))
        for method, words in METHODS.items():
            options = [word.replace(', "drop_path_rate": 0.2', "") for word in words]
            found = {way: learn(way, options, store, Path(name) / method / str(i)) for i, way in enumerate(WAYS)}
            for way, weights in found.items():
                ones, twos = (furthest(found[other], weights) for other in ("one process", "--devices 2"))
                print(f"| {method} | {way} | {ones:.1e} | {twos:.1e} |", flush=True)


if __name__ == "__main__":
    main()
