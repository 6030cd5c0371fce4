"""Aligned and rotated exports: the layer is that of its definition, and an index takes queries of an aligned one."""

import json
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from limbeck.data.store.open import open_store
from limbeck.embeddings.encoders import load_encoder
from limbeck.exports import export
from limbeck.exports.examples import fitting_rows, split_examples
from limbeck.exports.export_source import load_source
from limbeck.exports.projection import STRENGTHS, cross_recall, fit_projection, principal_axes
from limbeck.exports.provenance import store_of
from limbeck.models.encoder_io import load, load_preprocessing
from tests.helpers.commands import Run
from tests.helpers.errors import raises


def store_rows(trained: Path) -> tuple[Tensor, Tensor]:
    """Return normalized images of the run: those that a layer is fitted to, and those of the proof."""
    how, path = load_preprocessing(trained), store_of(trained)
    assert path is not None
    store = open_store(path, None)
    rows = fitting_rows(store)
    pixels = torch.from_numpy(np.asarray(store.images[rows])).permute(0, 3, 1, 2) / 255
    mean, std = (torch.tensor(values).view(3, 1, 1) for values in (how.mean, how.std))
    proof = torch.cat([images for images, _ in split_examples(store, how, fold=False).proof])
    return (pixels - mean) / std, proof


def loop_recall(queries: Tensor, bank: Tensor, truth: Tensor) -> float:
    """Return cross_recall from its definition, image by image."""

    def nearest(query: Tensor, rows: Tensor, itself: int) -> set[int]:
        cosines = [(F.cosine_similarity(query, row, dim=0).item(), i) for i, row in enumerate(rows) if i != itself]
        return {i for _, i in sorted(cosines, reverse=True)[:10]}

    shares = [len(nearest(queries[i], bank, i) & nearest(truth[i], truth, i)) / 10 for i in range(len(queries))]
    return sum(shares) / len(shares)


def test_recall_is_its_definition() -> None:
    bank, queries = torch.randn(2, 30, 6, dtype=torch.float64).unbind()
    queries = bank + 0.3 * queries
    assert cross_recall(queries, bank, bank) == pytest.approx(loop_recall(queries, bank, bank))
    assert cross_recall(bank, bank, bank) == 1
    assert 0.4 < cross_recall(queries, bank, bank) < 1


def test_the_first_axes_hold_most_and_all_of_them_change_no_cosine() -> None:
    mixture = torch.diag(torch.tensor([3.0, 1.0, 0.3, 0.1, 0.03])).double()
    features = torch.randn(200, 5, dtype=torch.float64) @ mixture @ torch.linalg.qr(torch.randn(5, 5).double()).Q + 0.5
    axes = principal_axes(features, half_whiten=False)
    torch.testing.assert_close(axes @ axes.T, torch.eye(5, dtype=torch.float64))
    rotated = features @ axes.T
    energy = rotated.square().mean(dim=0)
    assert energy.tolist() == sorted(energy.tolist(), reverse=True)
    u, s, _ = torch.linalg.svd(features, full_matrices=False)
    for k in (1, 2, 4):  # the best product of rank k
        torch.testing.assert_close(rotated[:, :k] @ rotated[:, :k].T, (u[:, :k] * s[:k] ** 2) @ u[:, :k].T)
    whitened = features @ principal_axes(features, half_whiten=True).T
    torch.testing.assert_close(whitened.square().mean(dim=0), energy.sqrt())


def test_the_layer_of_an_alignment_solves_the_ridge_regression(trained: Path) -> None:
    """With X of unit variance: (X'X + a I) W = X'(Y - mean Y), for the strength a that leaving one out prefers."""
    source, path = load_source(trained, 1, fold=False), store_of(trained)
    assert path is not None
    found = fit_projection(source, open_store(path, None), True, "none")
    images, _ = store_rows(trained)
    with torch.no_grad():
        x = load(trained, 1).eval()(images).final.double()
        y = F.normalize(load(trained).eval()(images).final.double(), dim=1)
    mean, scale = x.mean(dim=0), x.std(dim=0, correction=0)
    x = (x - mean) / scale
    weight, errors = found.layer.weight.double() * scale, []
    for strength in STRENGTHS:
        gram = torch.linalg.inv(x.T @ x + strength * torch.eye(x.shape[1], dtype=torch.float64))
        hat = x @ gram @ x.T
        left_out = (y - y.mean(dim=0) - hat @ (y - y.mean(dim=0))) / (1 - hat.diagonal() - 1 / len(x))[:, None]
        errors.append((left_out.square().mean().item(), gram @ x.T @ (y - y.mean(dim=0))))
    best = min(errors, key=lambda pair: pair[0])[1].T
    torch.testing.assert_close(weight, best, rtol=1e-3, atol=1e-4)
    torch.testing.assert_close(
        found.layer.bias.double(), y.mean(dim=0) - found.layer.weight.double() @ mean, rtol=1e-3, atol=1e-4
    )


def test_an_index_of_the_whole_network_takes_queries_of_an_aligned_export(
    limbeck: Run, trained: Path, photos: Path, tmp_path: Path
) -> None:
    out, index, query = tmp_path / "phone", tmp_path / "index", photos / "test" / "3" / "17.png"
    argv = ["export", trained, out, "--format", "onnx", "--depth", "1", "--align", "--fold-preprocessing", "--json"]
    code, printed, err = limbeck(*argv)
    assert code == 0, err
    result = json.loads(printed)
    assert result["aligned_to"] == {"digest": load_encoder(trained).digest, "depth": 3}
    (recall,) = result["recalls"].values()
    assert result["proof"]["chance"] < recall < 1
    assert f"{recall:.1%}" in err
    page = (out / "README.md").read_text(encoding="utf-8")
    assert f"{recall:.1%}" in page
    assert limbeck("index", photos / "train", index, "--with", trained)[0] == 0
    code, printed, err = limbeck("search", index, query, "--with", out, "--k", "3", "--json")
    assert code == 0, err
    cosines = [hit["cosine"] for hit in json.loads(printed)["queries"][0]["hits"]]
    assert load_encoder(out).dims == {3: 32}
    assert len(cosines) == 3
    assert cosines == sorted(cosines, reverse=True)
    assert cosines[0] > 0.5
    assert limbeck("search", index, query, "--with", f"{trained}/encoder")[0] == 0
    code, _, err = limbeck("index", photos / "test", index, "--with", out, "--verbose")
    assert (code, "[other-encoder]" in err) == (1, True)


def test_a_rotated_export_orders_what_the_network_computes(trained: Path, tmp_path: Path) -> None:
    result = export(trained, tmp_path / "out", 2, "onnx", rotate="pca")
    _, proof = store_rows(trained)
    session = onnxruntime.InferenceSession(tmp_path / "out" / "model.onnx")
    found = torch.from_numpy(session.run(None, {"images": proof.numpy()})[0])
    with torch.no_grad():
        features = load(trained, 2).eval()(proof).final
    torch.testing.assert_close(found @ found.T, features @ features.T, rtol=1e-3, atol=1e-3)
    assert [*result.recalls] == [8, 16, 32]
    assert result.recalls[8] <= result.recalls[16] <= result.recalls[32]
    assert result.recalls[32] > 0.99
    assert result.recalls[8] == pytest.approx(cross_recall(found[:, :8], found[:, :8], features), abs=0.01)
    assert result.recalls[8] > cross_recall(features[:, :8], features[:, :8], features)
    assert "32 (" in (tmp_path / "out" / "README.md").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("options", "code", "value"),
    [
        ({"align": True, "format": "onnx"}, "nothing-to-align", "--depth"),
        ({"align": True, "depth": 1}, "projection-needs-onnx-or-torch", "--align"),
        ({"rotate": "pca"}, "projection-needs-onnx-or-torch", "--rotate"),
        ({"rotate": "pcs", "format": "onnx"}, "unknown-rotation", "'pcs'"),
        ({"align": True, "rotate": "pca", "depth": 1, "format": "onnx"}, "align-or-rotate", "--rotate pca"),
    ],
)
def test_what_cannot_be_projected_is_refused(
    trained: Path, tmp_path: Path, options: dict[str, object], code: str, value: str
) -> None:
    with raises(code, value):
        export(trained, tmp_path / "out", **options)  # type: ignore[arg-type]
    assert list(tmp_path.iterdir()) == []


def test_an_encoder_without_images_cannot_be_rotated(trained: Path, tmp_path: Path) -> None:
    with raises("no-images", "--images"):
        export(trained / "encoder", tmp_path / "out", format="onnx", rotate="pca")
