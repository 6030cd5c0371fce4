"""What is known of licences that travel with what is learnt from weights. Facts to be read up, and no legal advice."""

import re
from pathlib import Path

from limbeck.teachers.frozen import LoadedTeacher

# What stands in a licence's name -> what the licence is known for; the first that fits is taken
KNOWN = {
    "dinov3": "the DINOv3 licence has conditions of its own for works derived from its models",
    "cc-by-nc": "it forbids commercial use",
    "noncommercial": "it forbids commercial use",
    "non-commercial": "it forbids commercial use",
    "apple-amlr": "it allows research only",
    "research": "it is made for research",
    "seer": "it is Meta's own licence for SEER, made for research",
    "rail": "its restrictions on use go with what is derived from the model",
    "gpl": "it asks that derived works keep the licence",
    "gemma": "its terms of use go with what is derived from the model, distilled models among it",
    "other": "it is a licence of its own",
    "custom": "it is a licence of its own",
}


def warning(frozen: LoadedTeacher) -> str | None:
    """A sentence if the teacher's licence is known to travel with what is distilled, or to forbid commercial use.

    An unknown licence gives none, except for DINOv3, whose name is enough.
    """
    license = frozen.license or ("dinov3" if "dinov3" in frozen.source.lower() else "")
    fact = next((fact for words, fact in KNOWN.items() if words in license.lower()), None)
    if fact is None:
        return None
    return (
        f"the teacher {frozen.source} has the licence '{license}': {fact}, and it may bind what is distilled from it; "
        "read it before you publish or sell the student"
    )


def larger(student_parameters: int, teacher_parameters: int) -> str | None:
    """A sentence if the student is larger than the teacher."""
    if student_parameters <= teacher_parameters:
        return None
    return (
        f"the student has {student_parameters / 1e6:.1f} M parameters, its teacher {teacher_parameters / 1e6:.1f} M: "
        "distillation is made for smaller students"
    )


def license_in_card(folder: Path) -> str:
    """What the model card in `folder` (front matter of README.md) says; "" if nothing."""
    card = folder / "README.md"
    text = card.read_text(encoding="utf-8", errors="replace") if card.is_file() else ""
    front = re.match(r"---\s*\n(.*?)\n---", text, re.S)
    lines = front[1] if front else ""
    found = re.findall(r"^(license|license_name):[ \t]*['\"]?([^'\"\n]+?)['\"]?[ \t]*$", lines, re.M)
    said: dict[str, str] = dict(found)
    license = said.get("license", "")
    return said.get("license_name", license) if license in ("", "other") else license
