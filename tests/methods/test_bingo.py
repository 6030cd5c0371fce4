"""BINGO: its definition, the authors' steps and boxes, the form of the paper."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from limbeck.core.types import BagSpec, DataContext, StepInfo, TeacherOutput
from limbeck.losses.contrastive import info_nce
from limbeck.methods.base.temperature import temperature_for
from limbeck.methods.bingo import BINGO, box, cutmix
from limbeck.methods.config.bingo import BINGOConfig
from tests.helpers import distillers, laws, tiny
from tests.helpers.errors import raises

TINY = BINGOConfig(queue_size=48, hidden=12, temperature=0.2)
PAPER = replace(TINY, symmetric=False, cutmix_alpha=0.0, warmup_fraction=0.0)
START, LATER = StepInfo(0, 2000), StepInfo(110, 2000)


def bingo(config: BINGOConfig = TINY) -> BINGO:
    method = distillers.tiny_distiller(config)
    assert isinstance(method, BINGO)
    return method


def crossentropy(method: BINGO, rows: Tensor, keys: Tensor) -> Tensor:
    """Return the mean cross-entropy of each row's key against the queue."""
    total = torch.zeros((), dtype=torch.float64)
    for row, key in zip(rows, keys, strict=True):
        found, *others = (
            torch.exp(F.cosine_similarity(row, c, dim=0) / 0.2) for c in (key, *method.queue["teacher"].clone())
        )
        total = total - torch.log(found / (found + sum(others)))
    return total / len(rows)


@pytest.mark.parametrize(("step_info", "weight"), [(START, 0.0), (LATER, 0.3)])
def test_a_step_is_its_definition(step_info: StepInfo, weight: float) -> None:
    method, batch = bingo(replace(TINY, bag_weight=0.3)), tiny.batch_for(TINY, 5, torch.float64)
    key, partner_key = method.teacher(batch).vectors
    torch.manual_seed(7)
    mixed, share = cutmix(batch.views[0], batch.views[1], 2.0)
    anchor, partner, mix = (method.embed(view) for view in (*batch.views[:2], mixed))
    expected = (1 - weight) * crossentropy(method, anchor, key) + weight * crossentropy(method, anchor, partner_key)
    expected += (1 - weight) * crossentropy(method, partner, partner_key) + weight * crossentropy(method, partner, key)
    expected += share * crossentropy(method, mix, key) + (1 - share) * crossentropy(method, mix, partner_key)

    torch.manual_seed(7)
    before = method.queue["teacher"].clone()
    loss = method(batch, step_info)
    distillers.same_gradients(method, loss.total, expected / 3)
    torch.testing.assert_close(sum(loss.terms.values()) / 3, loss.total.detach())
    method.after_step(loss, step_info)
    torch.testing.assert_close(method.queue["teacher"], torch.cat([F.normalize(key, dim=1), before[5:]]))


def test_without_cutmix_and_symmetry_it_is_the_papers_form() -> None:
    """L_intra + L_inter: the positive of both images is the anchor's key."""
    method, batch = bingo(PAPER), tiny.batch_for(PAPER, 5, torch.float64)
    (key,) = method.teacher(batch).vectors
    queue = method.queue["teacher"].clone()
    expected = sum(info_nce(method.embed(view), queue, key, 0.2) for view in batch.views[:2])
    assert isinstance(expected, Tensor)
    distillers.same_gradients(method, method(batch, START).total, expected)


def test_steps_of_the_authors(golden: Callable[[str], dict[str, np.ndarray]], monkeypatch: pytest.MonkeyPatch) -> None:
    """The authors' epochs 0, 10 and 11; the last one is the first without warm-up."""
    g = distillers.tensors(golden("bingo_loss_T0.2"))
    method = distillers.method_with(
        BINGOConfig(queue_size=12, hidden=4, temperature=float(g["T"]), bag_weight=float(g["lam"][1])),
        {"teacher": g["queue_before"][0].T},
    )
    for step in range(3):
        anchor, partner, mix = (g[name][step].requires_grad_() for name in ("q_raw", "qp_raw", "qmix_raw"))
        share = g["mix_lam"][step]
        monkeypatch.setattr("limbeck.methods.bingo.cutmix", lambda a, b, alpha, share=share: (a, share))
        embeddings = [mix, partner]
        method.embed = lambda images, embeddings=embeddings: embeddings.pop()
        step_info = StepInfo(int(g["epoch"][step]) * 5, 200 * 5)
        loss = method.distillation_loss(
            anchor, distillers.EMPTY, TeacherOutput((g["k_raw"][step], g["kp_raw"][step])), step_info
        )
        students = {anchor: "grad_q_raw", partner: "grad_qp_raw", mix: "grad_qmix_raw"}
        distillers.check(loss, g["loss"][step], {z: g[name][step] for z, name in students.items()})
        method.after_step(loss, step_info)
        torch.testing.assert_close(method.queue["teacher"], g["queue_after"][step].T, rtol=0, atol=1e-12)


def test_the_warmup_is_a_fraction_of_the_run() -> None:
    method = bingo()
    epochs = [StepInfo(7 * epoch, 7 * 200) for epoch in (0, 10, 11, 199)]
    assert [method.bag_weight(step_info) for step_info in epochs] == [0, 0, 0.5, 0.5]
    assert method.bag_weight(StepInfo(7 * 11 - 1, 7 * 200)) == 0
    assert bingo(PAPER).bag_weight(START) == 0.5


def test_without_weight_on_the_bag_each_image_has_its_own_positive() -> None:
    method, batch = bingo(replace(TINY, bag_weight=0.0, cutmix_alpha=0.0)), tiny.batch_for(TINY, 5, torch.float64)
    keys, queue = method.teacher(batch).vectors, method.queue["teacher"].clone()
    losses = [info_nce(method.embed(z), queue, k, 0.2) for z, k in zip(batch.views[:2], keys, strict=True)]
    distillers.same_gradients(method, method(batch, LATER).total, (losses[0] + losses[1]) / 2)


def test_boxes_of_the_authors(golden: Callable[[str], dict[str, np.ndarray]]) -> None:
    """The authors' box for each of their draws: the share that stays, the row and the column of the center."""
    g = golden("bingo_cutmix")
    first, second = (torch.from_numpy(g[name]) for name in ("ori", "near"))
    for i, seed in enumerate(g["seed"]):
        drawn = np.random.RandomState(seed)
        share, y, x = drawn.beta(2, 2), drawn.randint(16), drawn.randint(12)
        assert share == g["lam_sampled"][i]
        inside = box(torch.tensor(share), torch.tensor(y), torch.tensor(x), 16, 12)
        rows, columns = np.nonzero(inside.numpy())
        assert [rows.min(), columns.min(), rows.max() + 1, columns.max() + 1] == g["box_h1w1h2w2"][i].tolist()
        assert torch.equal(torch.where(inside, second, first), torch.from_numpy(g["mixed"][i]))
        torch.testing.assert_close(1 - inside.double().mean(), torch.tensor(g["lam_area"][i]))


def test_one_box_is_cut_out_of_every_image() -> None:
    first, second = torch.zeros(4, 3, 16, 12), torch.ones(4, 3, 16, 12)
    shares = []
    for seed in range(40):
        torch.manual_seed(seed)
        mixed, share = cutmix(first, second, 2.0)
        assert torch.equal(mixed, mixed[:1, :1].expand_as(mixed))
        torch.testing.assert_close(share, 1 - mixed.mean())
        shares.append(float(share))
    assert 0.5 < np.mean(shares) < 0.85  # half of the pixels on average, minus what lies outside the image
    assert min(shares) < 0.5
    assert max(shares) > 0.9


def test_views() -> None:
    first, second = (replace(view, crop_of=None) for view in TINY.make_views(32)[::2])
    assert TINY.make_views(32) == (
        first,
        replace(first, image="partner", crop_of=0),
        replace(second, crop_of=1),
        replace(second, crop_of=1, image="partner"),
    )
    assert [view.network for view in PAPER.make_views(32)] == ["student", "student", "teacher"]
    assert [view.image for view in replace(PAPER, cutmix_alpha=1.0).make_views(32)] == ["own", "partner"] * 2


def test_bags_suit_the_store() -> None:
    def resolved(images: int, size: int = 5) -> BagSpec:
        return (
            BINGOConfig(bag_kind="kmeans", bag_size=size)
            .resolve(DataContext(num_images=images, batch_size=8, forward_batch_size=8))
            .bag_spec()
        )

    assert resolved(1_281_167) == BagSpec("kmeans", 5)
    assert [resolved(images).size for images in (50, 900, 1_000, 2_500)] == [1, 3, 3, 5]
    assert resolved(900, size=8).size == 8
    with raises("bag-size-out-of-range", 900, 899, "(3 "):
        resolved(900, size=900)
    with raises("bag-size-out-of-range", 0):
        resolved(900, size=0)


def test_numbers_out_of_range_are_refused() -> None:
    context = DataContext(num_images=900, batch_size=8, forward_batch_size=8)
    with raises("cutmix-alpha-out-of-range", -1.0):
        BINGOConfig(cutmix_alpha=-1.0).resolve(context)
    with raises("bag-weight-out-of-range", 1.5):
        BINGOConfig(bag_weight=1.5).resolve(context)


def test_the_teacher_is_no_part_of_the_state() -> None:
    distillers.check_teacher_is_apart(tiny.build(TINY, tiny.tiny_vit()))


def test_a_temperature_is_chosen_by_default() -> None:
    method = bingo(replace(TINY, temperature=None))
    assert method.temperature == temperature_for(method.teacher.sample)


@pytest.mark.parametrize("config", [PAPER, replace(PAPER, cutmix_alpha=1.0), replace(TINY, dense_weight=1.0)])
def test_the_laws_hold_for_every_form(config: BINGOConfig) -> None:
    laws.test_loss_is_a_finite_float32_scalar(config, half=True)
    laws.test_the_gradient_reaches_trained_parameters_alone(config)
    laws.test_the_order_of_the_images_does_not_matter(config)
    laws.test_state_dict_and_configuration_are_all_the_state(config)
