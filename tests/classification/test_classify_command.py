"""From labels to a classifier, its predictions, and one file for timm or ONNX that gives the same logits."""

import csv
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import timm
import torch

import limbeck as library
from limbeck.classification.saved import linear_part, load_classifier
from limbeck.core.errors import UserError
from limbeck.embeddings.source import embed_source
from limbeck.models.encoder_io import read_encoder_config
from limbeck.models.licenses import inherited_license
from tests.helpers.commands import Run
from tests.helpers.errors import raises


@pytest.fixture(scope="module")
def digits(trained: Path, photos: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a classifier of the digits by the last depth of the run."""
    folder = tmp_path_factory.mktemp("classifiers") / "digits"
    library.classify(photos / "train", trained, folder, depth=3)
    return folder


def rows_of(file: Path) -> list[dict[str, str]]:
    with file.open(newline="", encoding="utf-8") as opened:
        return list(csv.DictReader(opened))


def test_predictions_are_those_of_the_head_on_the_features(
    limbeck: Run, trained: Path, photos: Path, digits: Path, tmp_path: Path
) -> None:
    status, printed, _ = limbeck(
        *("predict", digits, photos / "test", "--out", tmp_path / "p.csv", "--threshold", 0, "--json")
    )
    assert status == 0
    found, rows = json.loads(printed), rows_of(tmp_path / "p.csv")
    classifier, images = load_classifier(digits), embed_source(photos / "test", trained, depths=[3])
    assert [row["path"] for row in rows] == images.paths
    probabilities = classifier.probabilities(torch.from_numpy(np.array(images.features[3])))
    names = [classifier.about.label_names[number] for number in probabilities.argmax(dim=1)]
    assert [row["label"] for row in rows] == names
    np.testing.assert_allclose([float(row["probability"]) for row in rows], probabilities.amax(dim=1), atol=1e-3)
    right = np.mean([row["label"] == row["path"].split("/")[0] for row in rows])
    assert found["accuracy"] == pytest.approx(right)
    assert right > 0.25  # by chance 0.1
    assert abs(found["accuracy"] - classifier.about.accuracy) < 4 * (found["stderr"] + classifier.about.stderr)


def test_images_of_one_class_are_scored_and_nothing_names_a_folder(
    trained: Path, photos: Path, digits: Path, tmp_path: Path
) -> None:
    shutil.copytree(photos / "test" / "3", tmp_path / "one" / "3")
    found = library.predict(digits, tmp_path / "one", threshold=0.0)
    assert found.accuracy == pytest.approx(found.labels.count("3") / 8)
    assert found.scored == 8
    shutil.copytree(photos / "test" / "3", tmp_path / "other" / "three")
    assert library.predict(digits, tmp_path / "other").accuracy is None
    assert load_classifier(digits).about.network == trained.name
    for file in digits.rglob("*"):
        assert file.is_dir() or str(trained.parent).encode() not in file.read_bytes(), file


def test_a_threshold_leaves_labels_empty(photos: Path, digits: Path) -> None:
    everything = library.predict(digits, photos / "test", threshold=0.0)
    half = float(np.median(everything.probabilities))
    found = library.predict(digits, photos / "test", threshold=half)
    expected = [
        label if p >= half else "" for label, p in zip(everything.labels, everything.probabilities, strict=True)
    ]
    assert found.labels == expected
    assert found.counts()[""] == expected.count("")


def test_one_file_for_timm_and_onnx_gives_the_calibrated_logits(
    limbeck: Run, digits: Path, photos: Path, tmp_path: Path
) -> None:
    images = torch.randn(3, 3, 28, 28, generator=torch.Generator().manual_seed(0))
    network = library.load(digits).eval()
    with torch.no_grad():
        expected = linear_part(load_classifier(digits))(network(images).final)
    status, printed, _ = limbeck("export", digits, tmp_path / "timm", "--json")
    assert (status, json.loads(printed)["dim"]) == (0, 10)
    model = timm.create_model(f"local-dir:{tmp_path / 'timm'}", pretrained=True).eval()
    with torch.no_grad():
        torch.testing.assert_close(model(images), expected, atol=1e-4, rtol=0)
    assert model.pretrained_cfg["label_names"] == [str(digit) for digit in range(10)]
    torch.testing.assert_close(library.load(tmp_path / "timm").eval()(images).final, network(images).final)

    library.export(digits, tmp_path / "onnx", format="onnx")
    import onnxruntime

    session = onnxruntime.InferenceSession(tmp_path / "onnx" / "model.onnx")
    np.testing.assert_allclose(session.run(["logits"], {"images": images.numpy()})[0], expected, atol=1e-4)
    for folder in ("timm", "onnx"):
        assert (tmp_path / folder / "labels.txt").read_text().split() == [str(digit) for digit in range(10)]
    about = json.loads((tmp_path / "onnx" / "model.json").read_text())
    assert about["classifier"]["threshold"] == load_classifier(digits).about.threshold


def test_every_head_and_a_list_of_labels(limbeck: Run, trained: Path, photos: Path, tmp_path: Path) -> None:
    paths = [f"{digit}/{number:02d}.png" for digit in (3, 8) for number in range(6)]
    lines = ["path,label", *(f"{path},{'three' if path[0] == '3' else 'eight'}" for path in paths)]
    (tmp_path / "rows.csv").write_text("\n".join(lines), encoding="utf-8")
    for head in ("centroid", "logistic", "knn"):
        status, printed, messages = limbeck(
            *("classify", photos / "train", "--with", trained, "--labels", tmp_path / "rows.csv", "--head", head),
            *("--out", tmp_path / head, "--json"),
        )
        found = json.loads(printed)
        assert status == 0
        assert (found["rows"], found["label_names"], found["held_out"]) == (12, ["eight", "three"], 12)
        assert "148 images" in messages
        labels = library.predict(tmp_path / head, photos / "train", threshold=0.0)
        known = {path: label for path, label in zip(labels.paths, labels.labels, strict=True) if path in paths}
        assert np.mean([(known[path] == "three") == (path[0] == "3") for path in paths]) > 0.7
        assert labels.accuracy == 0.0  # the folders are named otherwise
    with raises("classifier-not-linear", "knn"):
        library.export(tmp_path / "knn", tmp_path / "exported")
    assert not (tmp_path / "exported").exists()


def test_mistakes(trained: Path, photos: Path, digits: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        "limbeck.classification.source.embed_source", lambda *args, **options: pytest.fail("a pass began")
    )

    def refused(rows: str, code: str, *values: str) -> None:
        (tmp_path / "rows.csv").write_text(f"path,label\n{rows}", encoding="utf-8")
        with raises(code, *values):
            library.classify(photos / "train", trained, tmp_path / "new", labels=tmp_path / "rows.csv")
        assert not (tmp_path / "new").exists()

    refused("3/00.png,three\n3/01.png,three\n", "one-class", "three")
    refused("3/00.png,\n", "images-not-labeled")
    refused("3/00.png,a\n3/01.png,A\n", "labels-collide", "'A'", "'a'")
    with raises("out-not-empty", digits):
        library.classify(photos / "train", trained, digits)
    with raises("not-a-classifier", trained):
        library.predict(trained, photos / "test")
    with raises("value-out-of-range", "1.5"):
        library.predict(digits, photos / "test", threshold=1.5)
    with raises("depth-of-a-classifier", "3"):
        library.export(digits, tmp_path / "cut", depth=1)
    (tmp_path / "mine.csv").write_text("name\n")
    with raises("not-ours", "mine.csv"):
        library.predict(digits, photos / "test", tmp_path / "mine.csv")


def test_one_image_per_class(trained: Path, photos: Path, tmp_path: Path) -> None:
    (tmp_path / "rows.csv").write_text("path,label\n3/00.png,three\n8/00.png,eight\n", encoding="utf-8")
    found = library.classify(photos / "train", trained, tmp_path / "few", labels=tmp_path / "rows.csv")
    assert found.about.accuracy is None
    assert library.predict(tmp_path / "few", photos / "train").labels.count("") == 0


def test_the_license_of_the_network_goes_with_the_classifier(trained: Path, photos: Path, tmp_path: Path) -> None:
    shutil.copytree(trained / "encoder", tmp_path / "encoder")
    config = json.loads((tmp_path / "encoder" / "config.json").read_text())
    config["limbeck"]["provenance"] = {"run": {"teacher": {"license": "cc-by-nc-4.0"}}}
    (tmp_path / "encoder" / "config.json").write_text(json.dumps(config))
    (tmp_path / "rows.csv").write_text("path,label\n3/00.png,three\n8/00.png,eight\n", encoding="utf-8")
    library.classify(photos / "train", tmp_path / "encoder", tmp_path / "a", labels=tmp_path / "rows.csv")
    found = read_encoder_config(tmp_path / "a" / "encoder")["provenance"]
    assert inherited_license(found) == "cc-by-nc-4.0"


def test_a_damaged_classifier(digits: Path, photos: Path, tmp_path: Path) -> None:
    shutil.copytree(digits, tmp_path / "damaged")
    (tmp_path / "damaged" / "head.safetensors").write_bytes(b"x")
    with pytest.raises(UserError) as caught:
        library.predict(tmp_path / "damaged", photos / "test")
    assert caught.value.code == "damaged-classifier"
