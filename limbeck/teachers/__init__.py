"""Frozen networks that teach: any of them, with its own preprocessing, told apart by a digest of its weights."""

from limbeck.teachers.config import TeacherConfig
from limbeck.teachers.frozen import LoadedTeacher, TeacherFeatures, TeacherNetwork, teacher_features
from limbeck.teachers.license import larger, warning
from limbeck.teachers.load import load_teacher

__all__ = [
    "TeacherFeatures",
    "LoadedTeacher",
    "TeacherConfig",
    "TeacherNetwork",
    "larger",
    "load_teacher",
    "teacher_features",
    "warning",
]
