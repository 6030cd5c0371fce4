"""Frozen teachers for distillation: any network, with its own preprocessing, identified by a digest of its weights."""

from limbeck.teachers.config import TeacherConfig
from limbeck.teachers.frozen import LoadedTeacher, TeacherFeatures, TeacherNetwork, teacher_features
from limbeck.teachers.load import load_teacher
from limbeck.teachers.warnings import NetworkCost, license_warning, student_cost_warning

__all__ = [
    "LoadedTeacher",
    "NetworkCost",
    "TeacherConfig",
    "TeacherFeatures",
    "TeacherNetwork",
    "license_warning",
    "load_teacher",
    "student_cost_warning",
    "teacher_features",
]
