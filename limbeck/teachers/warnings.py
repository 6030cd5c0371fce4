"""What to know about a teacher before a distillation: a license that may bind the student, and its size."""

from limbeck.models.licenses import license_fact
from limbeck.teachers.frozen import LoadedTeacher


def license_warning(teacher: LoadedTeacher) -> str | None:
    """Return a sentence if the teacher's license is known to bind distilled models or to forbid commercial use."""
    fact = license_fact(teacher.license, teacher.source)
    if fact is None:
        return None
    return (
        f"the teacher {teacher.source} has {fact}, and it may bind models distilled from the teacher; read it before "
        "you publish or sell the student"
    )


def student_size_warning(student_parameters: int, teacher_parameters: int) -> str | None:
    """Return a sentence if the student is larger than the teacher."""
    if student_parameters <= teacher_parameters:
        return None
    return (
        f"the student has {student_parameters / 1e6:.1f} M parameters and its teacher {teacher_parameters / 1e6:.1f} M:"
        " distillation is meant for students smaller than their teacher"
    )
