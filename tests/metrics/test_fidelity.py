"""Fidelity against its definitions as loops in float64, what it must not depend on, and what chance gives."""

from itertools import permutations

import pytest
import torch
from torch import Tensor

from limbeck.metrics.fidelity import fidelity, linear_cka
from tests.helpers.errors import raises


def features(rows: int = 30, dim: int = 6, seed: int = 0) -> Tensor:
    """Random features, off centre."""
    return 0.5 + torch.randn(rows, dim, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def rotation(dim: int = 6) -> Tensor:
    return torch.linalg.qr(features(dim, dim, seed=9)).Q


def cosine(a: Tensor, b: Tensor) -> float:
    return float(a @ b / (a.norm() * b.norm()))


def nearest_by_hand(rows: Tensor, i: int, k: int) -> set[int]:
    others = [j for j in range(len(rows)) if j != i]
    return set(sorted(others, key=lambda j: -cosine(rows[i], rows[j]))[:k])


def cka_by_hand(a: Tensor, b: Tensor) -> float:
    """HSIC(K, L) / sqrt(HSIC(K, K) HSIC(L, L)) of the N x N Gram matrices, centred on both sides."""
    n = len(a)
    centring = torch.eye(n, dtype=torch.float64) - 1 / n
    gram_a, gram_b = (centring @ (x @ x.T) @ centring for x in (a, b))

    def hsic(p: Tensor, q: Tensor) -> float:
        return sum(float(p[i, j] * q[i, j]) for i in range(n) for j in range(n))

    return hsic(gram_a, gram_b) / (hsic(gram_a, gram_a) * hsic(gram_b, gram_b)) ** 0.5


def test_it_is_its_definition() -> None:
    teacher = features()
    student = teacher + 0.7 * features(seed=1)
    shared = [len(nearest_by_hand(student, i, 4) & nearest_by_hand(teacher, i, 4)) / 4 for i in range(30)]
    found = fidelity(student, teacher, k=4)
    assert 0.2 < found.neighbor_agreement < 0.95
    assert found.neighbor_agreement == pytest.approx(sum(shared) / 30, abs=1e-12)
    assert found.chance == pytest.approx(4 / 29)
    assert found.cka == pytest.approx(cka_by_hand(student, teacher), rel=1e-10)
    assert found.cosine == pytest.approx(sum(map(cosine, student, teacher)) / 30, rel=1e-12)


def test_cka_by_chance_is_its_mean_over_every_pairing() -> None:
    a, b = features(6, 3), features(6, 4, seed=1)
    pairings = [linear_cka(a[list(order)], b)[0] for order in permutations(range(6))]
    assert linear_cka(a, b)[1] == pytest.approx(sum(pairings) / len(pairings), rel=1e-10)


def test_rotation_and_scale_change_nothing_but_the_cosine() -> None:
    teacher = features()
    student = 3.0 * teacher @ rotation()
    found = fidelity(student, teacher, k=5)
    assert found.neighbor_agreement == 1.0
    assert found.cka == pytest.approx(1.0, abs=1e-12)
    assert found.cosine is not None
    assert found.cosine < 0.9
    assert fidelity(teacher, teacher, k=5).cosine == pytest.approx(1.0)
    other = features(seed=3)
    assert linear_cka(other @ rotation() * 7 + 2, teacher)[0] == pytest.approx(linear_cka(other, teacher)[0], rel=1e-9)


def test_a_stretched_direction_lowers_every_number() -> None:
    """Unlike the accuracy of a linear probe, CKA changes under a linear map that is no rotation."""
    stretch = torch.tensor([20.0, 1, 1, 1, 1, 1], dtype=torch.float64)
    found = fidelity(features() * stretch, features(), k=5)
    assert found.neighbor_agreement < 0.7
    assert found.cka < 0.7


def test_widths_may_differ() -> None:
    teacher = features()
    wider = torch.cat([teacher, 0 * teacher], dim=1)
    found = fidelity(wider, teacher, k=5)
    assert (found.neighbor_agreement, found.cosine) == (1.0, None)
    assert found.cka == pytest.approx(1.0, abs=1e-12)


def test_unrelated_features_agree_by_chance() -> None:
    """600 rows, 20 neighbours: the standard error of the agreement is about 0.0016."""
    found = fidelity(features(600, 40), features(600, 60, seed=1), k=20)
    assert found.neighbor_agreement == pytest.approx(found.chance, abs=0.008)
    assert found.cka == pytest.approx(found.cka_chance, rel=0.2)
    few = fidelity(features(60, 400), features(60, 400, seed=1), k=5)
    assert few.cka > 0.8, "with more dimensions than images, unrelated features look alike"
    assert few.cka == pytest.approx(few.cka_chance, rel=0.02)


def test_a_collapsed_student_preserves_nothing() -> None:
    constant = torch.ones(600, 8)
    found = fidelity(constant, features(600).float(), k=10)
    assert found.neighbor_agreement < 0.1
    assert found.cka == pytest.approx(0.0, abs=1e-6)
    dead = torch.cat([torch.zeros(590, 8), torch.rand(10, 8)])  # zeros have no direction
    assert fidelity(dead, features(600).float(), k=10).neighbor_agreement < 0.1


def test_a_set_in_which_everything_agrees_is_refused() -> None:
    with raises("too-few-images", 11):
        fidelity(features(11), features(11))
