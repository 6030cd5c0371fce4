"""Laws of every evaluation metric, and the alignments of SDSSL's authors."""

import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from limbeck.evaluation.columns import BEGIN, END, fallen, markdown
from limbeck.evaluation.data import EvalData
from limbeck.evaluation.inputs import MetricInputs
from limbeck.evaluation.metric import Column, significant
from limbeck.evaluation.metrics import all_columns, all_metrics
from limbeck.evaluation.metrics.alignment import alignment
from limbeck.evaluation.models import BackboneModel
from tests.helpers.golden import Golden
from tests.helpers.shades import CFG, PLAIN, shades, tiny_resnet
from tests.helpers.tiny import tiny_vit

PAGE = Path(__file__).parents[2] / "docs" / "evaluation.md"


def inputs(model: BackboneModel | None = None) -> MetricInputs:
    """Everything that a metric may need."""
    data = EvalData.of(shades(45, 0), shades(30, 1), replace(CFG, whiten=True, copies=True))
    return MetricInputs(model or BackboneModel("net", tiny_vit(), PLAIN), data, torch.randn(30, 16))


@pytest.mark.parametrize("name", sorted({*all_metrics()} - {"forecast", "keypoints"}))  # which have data of their own
def test_a_metric_gives_the_columns_that_it_declares_at_every_depth(name: str) -> None:
    metric = all_metrics()[name]
    given = inputs()
    assert metric.needs - {"series"} <= given.offers  # those of series compute what they do from any features
    found = metric.compute(given)
    if name in ("copydays", "latency", "revisited", "segmentation", "video"):  # switched off, without their files
        assert found == {}
        return
    assert list(found) == [1, 2, 3]
    for values in found.values():
        assert set(values) == {column.name for column in metric.columns} - {"knn_top5", "linear_top5"}, "of 3 classes"
        accuracies = {column.name for column in metric.columns if column.accuracy}
        for column, value in values.items():
            if column in accuracies:
                assert isinstance(value, Tensor)
                assert (value.dtype, value.shape) == (torch.bool, (30,))
            else:
                assert value is None or type(value) in (int, float)


def test_columns_have_names_of_their_own_and_a_definition() -> None:
    columns = all_columns()
    assert len({column.name for column in columns}) == len(columns)
    for column in columns:
        assert re.fullmatch(r"[a-z][a-z0-9_]*", column.name)
        assert column.help
        assert column.priority in (0, 1, 2, 3)
        assert column.text(None) == "-"


def test_needs_are_met_by_what_there_is() -> None:
    unlabeled = EvalData.of(shades(9, 0, labeled=False), shades(30, 1, labeled=False), CFG)
    backbone = BackboneModel("net", tiny_vit(), PLAIN)
    assert MetricInputs(backbone, unlabeled).offers == {"views", "feature_maps", "descriptors", "frames", "any_shape"}
    assert inputs().offers - {"labels", "teacher"} == MetricInputs(backbone, unlabeled).offers
    assert {"labels", "teacher"} < inputs().offers


def test_networks_are_on_the_device_before_any_feature_is_extracted() -> None:
    data = replace(EvalData.of(shades(45, 0), shades(30, 1), CFG), device=torch.device("meta"))
    given = MetricInputs(BackboneModel("net", tiny_vit(), PLAIN), data)
    assert {p.device.type for network in given.networks.values() for p in network.parameters()} == {"meta"}


@pytest.mark.parametrize("build", [tiny_vit, tiny_resnet])
def test_feature_maps_are_those_of_the_backbone(build: Callable[[], object]) -> None:
    backbone = build()
    given = inputs(BackboneModel("net", backbone, PLAIN))  # type: ignore[arg-type]
    maps = given.feature_maps(np.array([4, 2]))
    for depth, values in maps.items():
        assert values.shape[:2] == (2, backbone.map_dims[depth])  # type: ignore[attr-defined]
    if build is tiny_resnet:
        torch.testing.assert_close(maps[2].mean(dim=(2, 3)), given.test(2)[[4, 2]])


def test_cuts_share_the_memory_of_the_network() -> None:
    backbone = tiny_vit()
    given = inputs(BackboneModel("net", backbone, PLAIN))
    pointers = {parameter.data_ptr() for parameter in backbone.parameters()}
    for network in given.networks.values():
        assert {parameter.data_ptr() for parameter in network.parameters()} <= pointers
        assert not network.training


@pytest.mark.parametrize("model", ["base", "sd"])
def test_alignments_equal_the_sdssl_authors(golden: Callable[[str], Golden], model: str) -> None:
    data = golden("sdssl_alignment")
    first, second = (torch.from_numpy(data[f"in/view{view}_{model}"]) for view in (1, 2))
    names = {"positive": "positive_distance", "negative": "negative_distance", "ratio": "alignment_ratio"}
    for layer, (a, b) in enumerate(zip(first, second, strict=True)):
        found = alignment(a, b, first[-1], second[-1])
        for prefix, kind in (("", "normalized"), ("raw_", "raw")):
            for theirs, name in names.items():
                expected = data[f"out/{kind}/{theirs}_{model}"][layer]
                assert found[prefix + name] == pytest.approx(expected, rel=1e-7, abs=1e-9)


def random(seed: int) -> Tensor:
    return torch.randn(9, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def test_the_distance_to_the_last_layer_crosses_the_views() -> None:
    a, b, last_a, last_b = (F.normalize(random(seed), dim=-1) for seed in range(4))
    pairs = [((a[i] - last_b[i]) ** 2).sum() + ((b[i] - last_a[i]) ** 2).sum() for i in range(len(a))]
    found = alignment(3 * a, 4 * b, 5 * last_a, 6 * last_b)
    assert found["distance_to_last"] == pytest.approx(float(sum(pairs)) / (2 * len(a)), rel=1e-12)
    assert alignment(a[:, :3], b[:, :3], last_a, last_b)["distance_to_last"] is None


@pytest.mark.parametrize(
    ("value", "shown"),
    [(5.526, "5.53"), (0.003213, "0.00321"), (86.57, "86.6"), (304.35, "304"), (1280.4, "1,280"), (0.0, "0.00")],
)
def test_three_significant_digits(value: float, shown: str) -> None:
    assert significant(value) == shown


def test_only_what_cannot_fall_is_marked_where_it_does() -> None:
    rows: list[dict[str, float | None]] = [{"x": x} for x in (1.0, 3.0, 2.0, None, 3.0, 2.9)]
    column = Column(name="x", label="x", help="x", rises=True)
    assert fallen(column, rows) == [False, False, True, False, False, True]
    assert not any(fallen(Column(name="x", label="x", help="x"), rows))


def test_the_page_has_the_table_of_all_columns() -> None:
    table = PAGE.read_text(encoding="utf-8").split(BEGIN)[1].split(END)[0].strip()
    assert table == markdown(), "run `python -m limbeck.evaluation.columns docs/evaluation.md`"
