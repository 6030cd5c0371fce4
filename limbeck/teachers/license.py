"""What is known about licenses that may bind a model distilled from licensed weights. Facts, and no legal advice."""

from pathlib import Path

from huggingface_hub import ModelCard

from limbeck.teachers.frozen import LoadedTeacher

# Part of a license's name -> what the license is known for; the first match counts
KNOWN = {
    "dinov3": "the DINOv3 license has conditions of its own for works derived from its models",
    "cc-by-nc": "it forbids commercial use",
    "noncommercial": "it forbids commercial use",
    "non-commercial": "it forbids commercial use",
    "apple-amlr": "it allows research only",
    "research": "it is made for research",
    "seer": "it is Meta's own license for SEER, made for research",
    "rail": "its restrictions on use apply to derived models as well",
    "gpl": "it requires derived works to have the same license",
    "gemma": "its terms of use apply to derived models, distilled ones included",
    "other": "it is a custom license",
    "custom": "it is a custom license",
}


def license_warning(teacher: LoadedTeacher) -> str | None:
    """Return a sentence if the teacher's license is known to bind distilled models or to forbid commercial use.

    There is none for an unknown license, except for DINOv3, for which the name of the model is enough.
    """
    license = teacher.license or ("dinov3" if "dinov3" in teacher.source.lower() else "")
    fact = next((fact for part, fact in KNOWN.items() if part in license.lower()), None)
    if fact is None:
        return None
    return (
        f"the teacher {teacher.source} has the license '{license}': {fact}, and it may bind models distilled from the "
        "teacher; read it before you publish or sell the student"
    )


def student_size_warning(student_parameters: int, teacher_parameters: int) -> str | None:
    """Return a sentence if the student is larger than the teacher."""
    if student_parameters <= teacher_parameters:
        return None
    return (
        f"the student has {student_parameters / 1e6:.1f} M parameters and its teacher {teacher_parameters / 1e6:.1f} M:"
        " distillation is meant for students smaller than their teacher"
    )


def license_in_card(folder: Path) -> str:
    """Return the license in the model card of `folder` (metadata of README.md); "" if it states none."""
    file = folder / "README.md"
    if not file.is_file():
        return ""
    try:
        card = ModelCard.load(file)
    except Exception:  # anybody may have written anything there, and the YAML parser raises classes of its own
        return ""
    license, name = card.data.get("license"), card.data.get("license_name")
    return str(name or license or "") if license in (None, "", "other") else str(license)
