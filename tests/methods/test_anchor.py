"""Anchor: its definition, no distance to the teacher's own weights, and BatchNorms that do not learn."""

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from limbeck.core.types import Batch, TeacherOutput
from limbeck.methods.anchor import Anchor
from limbeck.methods.base import Teacher
from limbeck.methods.config.anchor import AnchorConfig
from limbeck.models.backbone import Backbone, build_backbone
from limbeck.models.config import BackboneConfig
from tests.helpers import distillers, tiny

TINY = AnchorConfig(hidden=12, dim=8, distance_weight=3.0)
RESNET = BackboneConfig(name="resnet18", image_size=16, args={"layers": [1, 1, 1, 1], "channels": [4, 8, 8, 8]})


class CopyTeacher(Teacher):
    """The unit vectors of a frozen copy of a network, for the two views of a batch."""

    map_dim = 1

    def __init__(self, network: Backbone, sample: Tensor) -> None:
        self.network, self.dim, self.sample = network.eval(), network.dim, sample

    def __call__(self, batch: Batch) -> TeacherOutput:
        """Run the copy."""
        with torch.no_grad():
            return TeacherOutput(tuple(F.normalize(self.network(view).final, dim=1) for view in batch.views[:2]))


def anchored(config: AnchorConfig = TINY) -> Anchor:
    """Return the method around a network whose copy is the teacher, in float64."""
    torch.manual_seed(0)
    networks = [build_backbone(RESNET).double() for _ in range(2)]
    networks[1].load_state_dict(networks[0].state_dict())
    sample = F.normalize(networks[1].eval()(tiny.batch(7, torch.float64, seed=5).views[0]).final, dim=1).detach()
    return config.build_distiller(networks[0], CopyTeacher(networks[1], sample)).double()


def test_a_step_is_its_definition() -> None:
    torch.manual_seed(0)
    method = tiny.build(TINY, tiny.tiny_vit()).double()
    batch = tiny.batch_for(TINY, 5, torch.float64)
    assert isinstance(method, Anchor)
    targets, center = method.teacher(batch).vectors, method.teacher.sample.mean(0)
    features = [method.head(method.backbone(view).final) for view in batch.views[:2]]
    distance = torch.zeros((), dtype=torch.float64)
    for rows, wanted in zip(features, targets, strict=True):
        for row, target in zip(rows, wanted, strict=True):
            a, b = row / row.norm() - center, target - center
            distance = distance + (2 - 2 * (a @ b) / (a.norm() * b.norm())) / 10
    z = method.projector(torch.cat(features))
    z = z / z.norm(dim=1, keepdim=True)
    contrast = torch.zeros((), dtype=torch.float64)
    for i in range(10):
        others = [torch.exp(z[i] @ z[j] / 0.2) for j in range(10) if j != i]
        contrast = contrast - torch.log(torch.exp(z[i] @ z[(i + 5) % 10] / 0.2) / sum(others)) / 10

    loss = method(batch, tiny.STEP)
    distillers.same_gradients(method, loss.total, contrast + 3 * distance)
    torch.testing.assert_close((loss.terms["contrast"], loss.terms["distance"]), (contrast.detach(), distance.detach()))


def test_a_copy_of_the_student_is_no_distance_away_and_then_it_is() -> None:
    method, batch = anchored(), tiny.batch(6, torch.float64)
    assert isinstance(method.head, nn.Identity)
    loss = method(batch, tiny.STEP)
    torch.testing.assert_close(loss.terms["distance"], torch.zeros_like(loss.total), rtol=0, atol=1e-10)
    with torch.no_grad():
        for parameter in method.backbone.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
    assert method(batch, tiny.STEP).terms["distance"] > 1e-3


@pytest.mark.parametrize("learns", [False, True])
def test_batchnorms_of_the_backbone_learn_only_if_they_are_to(learns: bool) -> None:
    method = anchored(replace(TINY, update_statistics=learns))
    before = {name: buffer.clone() for name, buffer in method.backbone.named_buffers()}
    method(tiny.batch(6, torch.float64), tiny.STEP)
    changed = [name for name, buffer in method.backbone.named_buffers() if not torch.equal(buffer, before[name])]
    assert bool(changed) == learns
    assert method.projector.training


def test_the_teacher_gets_both_views() -> None:
    views = AnchorConfig().make_views(32)
    assert views[2:] == tuple(replace(view, network="teacher", crop_of=index) for index, view in enumerate(views[:2]))
