"""`devices=2` as a user starts it: one script, that Fabric starts a second time."""

import os
import subprocess
import sys
from pathlib import Path

import torch

from tests.train.toy import fit, toy

ROOT = Path(__file__).parents[2]


def test_two_processes_share_out_the_rows_and_learn_what_one_learns(tmp_path: Path) -> None:
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, str(ROOT / "tests/train/two_processes.py"), str(tmp_path / "two")]
    done = subprocess.run(
        command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "deprecated" not in done.stderr
    first, second = (torch.load(tmp_path / "two" / f"{rank}.pt", weights_only=True) for rank in range(2))
    for epoch in range(2):
        seen = torch.cat([part["rows"][5 * epoch : 5 * epoch + 5].flatten() for part in (first, second)])
        assert sorted(seen.tolist()) == list(range(40))
    assert torch.equal(first["weight"], second["weight"])
    one = fit(tmp_path / "one", toy(norm=False, noise=0.0))
    torch.testing.assert_close(first["weight"], one.state_dict()["backbone.1.weight"], rtol=1e-4, atol=1e-4)
    assert (tmp_path / "two" / "metrics.csv").read_text().count("\n") == 7  # the header, steps 2, 4, 5, 6, 8 and 10
