"""BINGO against its definition, its authors' steps and boxes, and the paper's form."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from limbeck.core.errors import UserError
from limbeck.core.types import BagSpec, DataContext, StepInfo, TeacherOutput
from limbeck.losses.contrastive import info_nce
from limbeck.methods.base.temperature import temperature_for
from limbeck.methods.bingo import BINGO, BINGOConfig, box, cutmix
from tests.helpers import laws, tiny, told

TINY = BINGOConfig(queue=48, hidden=12, temperature=0.2)
PAPER = replace(TINY, symmetric=False, cutmix=0.0, warmup=0.0)
START, LATER = StepInfo(0, 2000), StepInfo(110, 2000)


def bingo(config: BINGOConfig = TINY) -> BINGO:
    method = told.small(config)
    assert isinstance(method, BINGO)
    return method


def crossentropy(method: BINGO, rows: Tensor, keys: Tensor) -> Tensor:
    """Of finding each row's key; what else there is to find is the queue."""
    total = torch.zeros((), dtype=torch.float64)
    for row, key in zip(rows, keys, strict=True):
        own, *others = (
            torch.exp(F.cosine_similarity(row, c, dim=0) / 0.2) for c in (key, *method.queue["teacher"].clone())
        )
        total = total - torch.log(own / (own + sum(others)))
    return total / len(rows)


@pytest.mark.parametrize(("step_info", "own", "other"), [(START, 1.0, 0.0), (LATER, 0.7, 0.3)])
def test_a_step_is_its_definition(step_info: StepInfo, own: float, other: float) -> None:
    method, batch = bingo(replace(TINY, inter=0.3)), tiny.batch_for(TINY, 5, torch.float64)
    key, mate_key = method.teacher(batch).vectors
    torch.manual_seed(7)
    mixed, share = cutmix(batch.views[0], batch.views[1], 2.0)
    anchor, mate, mix = (method.embed(view) for view in (*batch.views[:2], mixed))
    expected = own * crossentropy(method, anchor, key) + other * crossentropy(method, anchor, mate_key)
    expected += own * crossentropy(method, mate, mate_key) + other * crossentropy(method, mate, key)
    expected += share * crossentropy(method, mix, key) + (1 - share) * crossentropy(method, mix, mate_key)

    torch.manual_seed(7)
    before = method.queue["teacher"].clone()
    loss = method(batch, step_info)
    told.same_gradients(method, loss.total, expected / 3)
    torch.testing.assert_close(sum(loss.terms.values()) / 3, loss.total.detach())
    method.after_step(loss, step_info)
    torch.testing.assert_close(method.queue["teacher"], torch.cat([F.normalize(key, dim=1), before[5:]]))


def test_without_cutmix_and_symmetry_it_is_the_papers_form() -> None:
    """L_intra + L_inter: both images are to find the anchor's key."""
    method, batch = bingo(PAPER), tiny.batch_for(PAPER, 5, torch.float64)
    (key,) = method.teacher(batch).vectors
    queue = method.queue["teacher"].clone()
    expected = sum(info_nce(method.embed(view), queue, key, 0.2) for view in batch.views[:2])
    assert isinstance(expected, Tensor)
    told.same_gradients(method, method(batch, START).total, expected)


def test_steps_of_the_authors(golden: Callable[[str], dict[str, np.ndarray]], monkeypatch: pytest.MonkeyPatch) -> None:
    """Of their epochs 0, 10 and 11, of which the last is the first without warm-up."""
    g = told.tensors(golden("bingo_loss_T0.2"))
    method = told.method_with(
        BINGOConfig(queue=12, hidden=4, temperature=float(g["T"]), inter=float(g["lam"][1])),
        {"teacher": g["queue_before"][0].T},
    )
    for step in range(3):
        anchor, mate, mix = (g[name][step].requires_grad_() for name in ("q_raw", "qp_raw", "qmix_raw"))
        share = g["mix_lam"][step]
        monkeypatch.setattr("limbeck.methods.bingo.cutmix", lambda a, b, alpha, share=share: (a, share))
        answers = [mix, mate]
        method.embed = lambda images, answers=answers: answers.pop()
        step_info = StepInfo(int(g["epoch"][step]) * 5, 200 * 5)
        loss = method.distillation_loss(
            anchor, told.NONE, TeacherOutput((g["k_raw"][step], g["kp_raw"][step])), step_info
        )
        students = {anchor: "grad_q_raw", mate: "grad_qp_raw", mix: "grad_qmix_raw"}
        told.check(loss, g["loss"][step], {z: g[name][step] for z, name in students.items()})
        method.after_step(loss, step_info)
        torch.testing.assert_close(method.queue["teacher"], g["queue_after"][step].T, rtol=0, atol=1e-12)


def test_the_warmup_ends_with_its_share_of_the_run() -> None:
    method = bingo()
    epochs = [StepInfo(7 * epoch, 7 * 200) for epoch in (0, 10, 11, 199)]
    assert [method.weights(step_info) for step_info in epochs] == [(1, 0), (1, 0), (0.5, 0.5), (0.5, 0.5)]
    assert method.weights(StepInfo(7 * 11 - 1, 7 * 200)) == (1, 0)
    assert bingo(PAPER).weights(START) == (0.5, 0.5)


def test_without_weight_on_the_bag_each_finds_its_own() -> None:
    method, batch = bingo(replace(TINY, inter=0.0, cutmix=0.0)), tiny.batch_for(TINY, 5, torch.float64)
    keys, queue = method.teacher(batch).vectors, method.queue["teacher"].clone()
    own = [info_nce(method.embed(z), queue, k, 0.2) for z, k in zip(batch.views[:2], keys, strict=True)]
    told.same_gradients(method, method(batch, LATER).total, (own[0] + own[1]) / 2)


def test_boxes_of_the_authors(golden: Callable[[str], dict[str, np.ndarray]]) -> None:
    """Their box for each of their draws: the share that stays, the row and the column of the centre."""
    g = golden("bingo_cutmix")
    first, second = (torch.from_numpy(g[name]) for name in ("ori", "near"))
    for i, seed in enumerate(g["seed"]):
        drawn = np.random.RandomState(seed)
        kept, y, x = drawn.beta(2, 2), drawn.randint(16), drawn.randint(12)
        assert kept == g["lam_sampled"][i]
        inside = box(*map(torch.tensor, (kept, y, x)), 16, 12)
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
    assert 0.5 < np.mean(shares) < 0.85  # half of the pixels on average, less what lies outside the image
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
    assert [view.network for view in PAPER.make_views(32)] == [
        "student",
        "student",
        "teacher",
    ]  # the paper asks it once
    assert [view.image for view in replace(PAPER, cutmix=1.0).make_views(32)] == ["own", "partner"] * 2


def test_bags_suit_the_store() -> None:
    def fitted(images: int, size: int = 5) -> BagSpec:
        return (
            BINGOConfig(bag="kmeans", bag_size=size)
            .resolve(DataContext(num_images=images, batch_size=8, forward_batch_size=8))
            .bags()
        )

    assert fitted(1_281_167) == BagSpec("kmeans", 5)
    assert [fitted(images).size for images in (50, 900, 1_000, 2_500)] == [1, 3, 3, 5]
    assert fitted(900, size=8).size == 8
    with pytest.raises(UserError, match=r"a bag of 900 images .* store of 900; take 1 to 899 .3 is a good start"):
        fitted(900, size=900)
    with pytest.raises(UserError, match=r"a bag of 0 images"):
        fitted(900, size=0)


def test_numbers_out_of_range_are_refused() -> None:
    for config in (BINGOConfig(cutmix=-1.0), BINGOConfig(inter=1.5)):
        with pytest.raises(UserError, match=r"cutmix .* is to be 0 or more and inter .* between 0 and 1"):
            config.resolve(DataContext(num_images=900, batch_size=8, forward_batch_size=8))


def test_the_teacher_is_no_part_of_it() -> None:
    told.untouched(tiny.build(TINY, tiny.tiny_vit()))


def test_a_temperature_is_chosen_where_none_is_given() -> None:
    method = bingo(replace(TINY, temperature=None))
    assert method.temperature == temperature_for(method.teacher.sample)


@pytest.mark.parametrize("config", [PAPER, replace(PAPER, cutmix=1.0), replace(TINY, dense=1.0)])
def test_the_laws_hold_for_every_form(config: BINGOConfig) -> None:
    laws.test_loss_is_a_finite_float32_scalar(config, half=True)
    laws.test_gradient_reaches_what_learns_and_nothing_else(config)
    laws.test_order_of_the_images_does_not_matter(config)
    laws.test_state_is_all_there_is(config)
