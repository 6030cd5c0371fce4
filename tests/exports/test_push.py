"""Networks for the Hugging Face hub: what is sent, its card, and who opens it. Nothing here reaches a network."""

import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import huggingface_hub
import pytest
import timm
import torch
from huggingface_hub import ModelCard
from huggingface_hub.errors import LocalTokenNotFoundError
from PIL import Image

import limbeck as library
from limbeck.embeddings.encoders import load_encoder
from limbeck.evaluation.config import EvaluateConfig
from limbeck.evaluation.results import EvaluationResult, ImageSet, LayerResult
from limbeck.exports.hub.card import CardFacts, write_card
from limbeck.exports.hub.push import push
from limbeck.metrics.cost import Latency
from limbeck.models.backbone import build_backbone
from limbeck.models.config import BackboneConfig, StartConfig
from limbeck.models.encoder_io import Preprocessing, load, save_encoder
from limbeck.models.pretrained import NetworkRef, load_pretrained
from limbeck.models.start import load_start
from limbeck.teachers.config import TeacherConfig
from limbeck.teachers.load import load_teacher
from tests.helpers.commands import Run
from tests.helpers.errors import raises
from tests.helpers.folders import MEAN, NARROW, STD, disturb, images, limbeck_run
from tests.helpers.hub import put_on_hub

NAME = "ada/leaves"
HUB_NAME = f"hf-hub:{NAME}"
RUN = {
    "store": "/home/ada/secret/store-1",
    "method": {"name": "simreg"},
    "teacher": {"name": "/home/ada/models/dinov3-big", "license": "dinov3-license"},
    "start": {"name": "hf-hub:timm/start", "license": "mit"},
}


def evaluated(run: Path) -> None:
    """Add a result with k-NN at every depth, and a linear probe at the second."""
    rows = [{"knn": 0.5, "knn_stderr": 0.05}, {"knn": 0.75, "linear": 0.8125}, {"knn": 0.625}]
    layers = tuple(LayerResult(depth=depth, values={**values}) for depth, values in enumerate(rows, start=1))
    EvaluationResult(
        layers=layers,
        config=EvaluateConfig(),
        linear_probe="logistic",
        classes=("oak", "elm"),
        train=ImageSet(path="/home/ada/train", images=1200, digest=""),
        test=ImageSet(path="/home/ada/test", images=300, digest=""),
        seconds=1.0,
        hardware={"machine": "adas-laptop"},
        command="limbeck evaluate /home/ada/runs",
        image_size=32,
        k=20,
        verdict="better than the untrained network",
    ).save(run / "result.json")


def untimed(networks: Sequence[object], image: object, *, threads: int = 1) -> list[Latency]:
    return [Latency(1.0, 1.0) for _ in networks]


@pytest.fixture(autouse=True)
def _no_timing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave out what takes most of an export, and is no part of a card."""
    monkeypatch.setattr("limbeck.exports.write.latencies", untimed)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("push") / "run"
    limbeck_run(folder, {"run": RUN})
    evaluated(folder)
    return folder


@pytest.fixture(scope="module")
def card(run: Path) -> Path:
    """Return what is written for two blocks of the run."""
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setattr("limbeck.exports.write.latencies", untimed)
        found = push(run, NAME, to=run.parent / "card", depth=2, license="cc-by-4.0", data=["ada/photos"])
    folder = Path(found.place)
    assert found.files == {file.name: file.stat().st_size for file in sorted(folder.iterdir())}
    assert [*found.files] == ["README.md", "config.json", "model.safetensors"]
    return folder


@torch.no_grad()
def test_what_is_written_opens_everywhere_by_its_name_on_the_hub(
    run: Path, card: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put_on_hub(card, NAME, tmp_path / "hub", monkeypatch)
    expected = load(run, depth=2).eval()(images()).final
    in_timm = timm.create_model(HUB_NAME, pretrained=True).eval()
    torch.testing.assert_close(in_timm(images()), expected, atol=1e-5, rtol=0)
    torch.testing.assert_close(library.load(HUB_NAME).eval()(images()).final, expected)
    assert library.load_preprocessing(f"{HUB_NAME}@main") == library.load_preprocessing(run)
    assert load_start(StartConfig(name=HUB_NAME)).backbone.cut == 2
    teacher = load_teacher(TeacherConfig(name=HUB_NAME, precision="fp32"))
    torch.testing.assert_close(teacher.network(images()).vector, expected)
    assert "dinov3-license" in load_pretrained(NetworkRef(HUB_NAME)).license
    encoder, here = load_encoder(HUB_NAME), load_encoder(card)
    assert (encoder.digest, encoder.store_size, encoder.mean) == (here.digest, 40, MEAN)
    library.export(HUB_NAME, tmp_path / "again", depth=1)
    torch.testing.assert_close(load(tmp_path / "again").eval()(images()).final, load(run, 1).eval()(images()).final)


def test_the_card_states_licenses_results_and_how_to_load(card: Path) -> None:
    found = ModelCard.load(card / "README.md")
    assert found.data.to_dict() | {"model-index": None} == {
        "license": "cc-by-4.0",
        "library_name": "timm",
        "pipeline_tag": "image-feature-extraction",
        "tags": ["limbeck", "timm", "simreg"],
        "datasets": ["ada/photos"],
        "base_model": "timm/start",
        "model-index": None,
    }
    values = {result.metric_name: result.metric_value for result in found.data.eval_results or ()}
    assert values == {"k-NN accuracy": 75.0, "linear probe accuracy": 81.25}
    lines = found.text.splitlines()
    assert [line.split(" | ")[0] for line in lines if line.startswith("|")] == [
        "| layer",
        "|---|---|---|---|",
        "| 1",
        "| **2**",
        "| 3",
    ]
    for text in ("1,200", "300", "| **2** | **75.0** | - | **81.2** |", "dinov3-license", "license mit", HUB_NAME):
        assert text in found.text
    assert found.text.count("```") == 4


def test_the_lines_of_the_card_run(card: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put_on_hub(card, NAME, tmp_path / "hub", monkeypatch)
    monkeypatch.chdir(tmp_path)
    Image.new("RGB", (50, 40), (10, 200, 90)).save("photo.jpg", quality=100)
    first, second = (part.split("```")[0] for part in (card / "README.md").read_text().split("```python\n")[1:])
    names: dict[str, Any] = {}
    exec(first + second, names)
    pixel = torch.tensor(Image.open("photo.jpg").getpixel((20, 20))) / 255
    flat = ((pixel - torch.tensor(MEAN)) / torch.tensor(STD)).view(1, 3, 1, 1).expand(1, 3, 32, 32)
    with torch.no_grad():
        torch.testing.assert_close(names["features"], names["backbone"](flat).final, atol=1e-3, rtol=1e-3)
    assert names["how"].store_size == 40


def test_nothing_that_is_sent_names_this_machine(card: Path) -> None:
    for file in card.iterdir():
        for private in (b"/home", b"secret", b"adas-laptop", str(card.parent).encode()):
            assert private not in file.read_bytes(), file.name


def test_no_code_of_the_hub_is_fetched_or_executed(run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    small_stem = BackboneConfig(name="resnet18", image_size=32, args=NARROW)
    how = library.load_preprocessing(run)
    save_encoder(disturb(build_backbone(small_stem)), tmp_path / "run", how, {"method": "simclr"})
    push(tmp_path / "run", NAME, to=tmp_path / "card", depth=3)
    assert "model.py" in [file.name for file in (tmp_path / "card").iterdir()]
    assert ModelCard.load(tmp_path / "card" / "README.md").data.to_dict()["library_name"] == "limbeck"
    (tmp_path / "card" / "model.py").write_text("raise SystemExit('executed')")
    put_on_hub(tmp_path / "card", NAME, tmp_path / "hub", monkeypatch)
    asked: dict[str, Any] = {}
    real = huggingface_hub.snapshot_download
    monkeypatch.setattr(
        "limbeck.models.hub.snapshot_download", lambda *args, **options: asked.update(options) or real(*args, **options)
    )
    assert library.load(HUB_NAME).dim == load(tmp_path / "run", 3).dim
    assert not [pattern for pattern in asked["allow_patterns"] if Path("model.py").match(pattern)]


class Hub:
    """An API that writes down what it is asked, and takes every folder."""

    def __init__(self, folder: Path, existing: bool) -> None:
        self.folder, self.existing, self.calls = folder, existing, list[str]()

    def __call__(self) -> "Hub":
        return self

    def whoami(self) -> dict[str, str]:
        self.calls.append("whoami")
        return {"name": "ada"}

    def repo_exists(self, name: str) -> bool:
        self.calls.append(f"repo_exists {name}")
        return self.existing

    def create_repo(self, name: str, private: bool, exist_ok: bool) -> str:
        self.calls.append(f"create_repo {name} {private}")
        return f"https://hub.example/{name}"

    def upload_folder(self, repo_id: str, folder_path: Path, commit_message: str, delete_patterns: list[str]) -> None:
        self.calls.append(f"upload_folder {repo_id}")
        shutil.copytree(folder_path, self.folder)


def test_what_is_sent_is_what_is_written(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, limbeck: Run
) -> None:
    hub = Hub(tmp_path / "sent", existing=False)
    monkeypatch.setattr(huggingface_hub, "HfApi", hub)
    words = [run, NAME, "--license", "mit", "--data", "ada/photos", "--json"]
    code, out, _ = limbeck("push", *words, "--to", tmp_path / "card")
    assert (code, hub.calls) == (0, [])
    written = json.loads(out)
    code, out, _ = limbeck("push", *words, "--private")
    assert code == 0
    assert hub.calls == ["whoami", f"repo_exists {NAME}", f"create_repo {NAME} True", f"upload_folder {NAME}"]
    assert json.loads(out) == written | {"place": f"https://hub.example/{NAME}"}
    for file in (tmp_path / "card").iterdir():
        assert (tmp_path / "sent" / file.name).read_bytes() == file.read_bytes()
    assert len([*(tmp_path / "sent").iterdir()]) == len(written["files"])
    hub.existing, hub.calls = True, []
    with raises("hub-exists", NAME, "--replace"):
        push(run, NAME)
    assert hub.calls == ["whoami", f"repo_exists {NAME}"]
    hub.folder = tmp_path / "again"
    push(run, NAME, replace=True)
    assert hub.calls[-1] == f"upload_folder {NAME}"


def test_what_cannot_be_sent_is_one_sentence(run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with raises("hub-name", "leaves", "OWNER/NAME"):
        push(run, "leaves", to=tmp_path / "card")
    with raises("hub-name", "my photos"):
        push(run, NAME, data=["my photos"], to=tmp_path / "card")
    with raises("out-not-empty", run):
        push(run, NAME, to=run)
    with raises("no-encoder", tmp_path / "nothing"):
        push(tmp_path / "nothing", NAME, to=tmp_path / "card")
    with raises("hub-refused", NAME):  # tests are offline
        push(run, NAME)

    def nobody(self: object) -> None:
        raise LocalTokenNotFoundError("no token")

    monkeypatch.setattr(huggingface_hub.HfApi, "whoami", nobody)
    with raises("hub-refused", NAME, "hf auth login"):
        push(run, NAME)
    assert not (tmp_path / "card").exists()


def test_a_network_of_others_is_no_encoder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "config.json").write_text('{"model_type": "dinov2"}')
    put_on_hub(tmp_path / "other", "b/c", tmp_path / "hub", monkeypatch)
    with raises("not-a-limbeck-encoder", "hf-hub:b/c"):
        load("hf-hub:b/c")
    with raises("not-a-network", "hf-hub:b/c", "transformers"):
        load_pretrained(NetworkRef("hf-hub:b/c"))
    with raises("hub-unreachable", "nobody/nothing"):
        load("hf-hub:nobody/nothing")


def test_names_of_classes_are_text_on_the_card() -> None:
    names = ["<img src=x>", "[here](http://x)", "`tick`", "a\nb"]
    how = Preprocessing(image_size=8, store_size=8, mean=(0, 0, 0), std=(1, 1, 1))
    facts = CardFacts(
        name="a/b",
        architecture="resnet18",
        network="resnet18",
        depth=1,
        dim=4,
        preprocessing=how,
        label_names=names,
        accuracy="",
        config={},
        result=None,
        license=None,
        data=(),
    )
    shown = next(line for line in write_card(facts).splitlines() if line.startswith("Classes:"))
    assert "`<img src=x>`, `[here](http://x)`, `` `tick` ``, `a\\x0ab`" in shown
