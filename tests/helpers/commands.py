"""The real command line, a few real photographs, and a small run trained on them, for the tests of commands."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from PIL import Image

from limbeck.cli import main
from limbeck.core.logs import ROOT
from limbeck.data.samples import digits

TINY = [
    "--method",
    "sdssl",
    "--backbone",
    "vit_tiny_patch16_224",
    "--backbone.args",
    '{"patch_size": 7, "embed_dim": 32, "depth": 3, "num_heads": 2}',
    "--method.hidden",
    "32",
    "--method.host.hidden",
    "32",
    "--method.host.dim",
    "16",
    "--epochs",
    "2",
    "--batch-size",
    "32",
    "--log-every-steps",
    "2",
    "--eval-every-epochs",
    "1",
]
Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def limbeck(capsys: pytest.CaptureFixture[str]) -> Iterator[Run]:
    """Run a command; return its exit status and what it wrote to stdout and stderr."""

    handlers, level = ROOT.handlers[:], ROOT.level

    def run(*argv: str | Path) -> tuple[int, str, str]:
        code = 0
        try:
            main([str(word) for word in argv])
        except SystemExit as stop:
            code = int(stop.code or 0)
        out, err = capsys.readouterr()
        return code, out, err

    yield run
    ROOT.handlers[:] = handlers
    ROOT.setLevel(level)


@pytest.fixture(scope="session")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folders train and test with a sub-folder per digit, 16 and 8 PNGs in each, and one file that is broken."""
    folder = tmp_path_factory.mktemp("photos")
    images, labels = digits()
    for digit in range(10):
        for number, image in enumerate(images[labels == digit][:24]):
            path = folder / ("train" if number < 16 else "test") / str(digit) / f"{number:02d}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(image).save(path)
    (folder / "train" / "3" / "broken.png").write_bytes(b"")
    return folder


@pytest.fixture(scope="session")
def trained(photos: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a run of the default method on a store of those photographs."""
    folder = tmp_path_factory.mktemp("trained")
    main(["store", str(photos / "train"), str(folder / "store")])
    main(["pretrain", str(folder / "store"), "--out", str(folder / "run"), *TINY])
    return folder / "run"
