"""The input size at which a teacher's feature map has the places of the student's, or a whole multiple of them."""

from itertools import count

import torch

from limbeck.core.errors import UserError
from limbeck.core.resolved import Resolved
from limbeck.teachers.frozen import LoadedTeacher

LEAST_SHARE = 0.75
"""Of the student's pixels along a side, which a teacher sees at least: a ViT of patches of 14 has 196 for 224."""


def matched_size(teacher: LoadedTeacher, places: int, student_size: int) -> Resolved[int]:
    """Return the size for a student with `places` along the side of its last map, of images of `student_size` pixels.

    It is the smallest one whose map is as fine as the student's, or 2, 3 ... times as fine, and shows enough pixels.

    Raises:
        UserError: the teacher has no feature map.
    """
    if not teacher.map_dim:
        raise UserError(
            f"the teacher {teacher.source} has no feature map, which --teacher.image-size auto matches with the "
            "student's: give a number of pixels, or leave it out",
            code="no-feature-maps",
        )
    own = teacher.network(torch.zeros(1, 3, teacher.image_size, teacher.image_size), feature_map=True).feature_map
    assert own is not None, "it has channels"
    cell = round(teacher.image_size / own.shape[-1])
    times = next(times for times in count(1) if times * places * cell >= LEAST_SHARE * student_size)
    size = times * places * cell
    fine = f"{times} times as fine as" if times > 1 else "as fine as"
    reason = (
        f"teacher input {size} x {size} instead of {teacher.image_size} x {teacher.image_size}: its map of "
        f"{times * places} x {times * places} places is {fine} the student's of {places} x {places} "
        "(--teacher.image-size)"
    )
    return Resolved(size, [reason])
