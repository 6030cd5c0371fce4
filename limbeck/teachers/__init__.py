"""Frozen networks that teach: any of them, with its own preprocessing, told apart by a digest of its weights."""

from limbeck.teachers.config import TeacherConfig
from limbeck.teachers.frozen import Answer, Frozen, TeacherNetwork, teacher_features
from limbeck.teachers.licence import larger, warning
from limbeck.teachers.load import load_teacher

__all__ = [
    "Answer",
    "Frozen",
    "TeacherConfig",
    "TeacherNetwork",
    "larger",
    "load_teacher",
    "teacher_features",
    "warning",
]
