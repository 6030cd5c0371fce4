"""Licenses that may bind a model made from licensed weights. Facts, and no legal advice."""

from pathlib import Path
from typing import Any

from huggingface_hub import ModelCard

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


def license_fact(license: str, source: str) -> str | None:
    """Return "the license 'X': " and what it is known for, if it is known to bind models made from licensed ones.

    There is nothing for an unknown license, except for DINOv3, for which the name of the source is enough.
    """
    license = license or ("dinov3" if "dinov3" in source.lower() else "")
    fact = next((fact for part, fact in KNOWN.items() if part in license.lower()), None)
    return None if fact is None else f"the license '{license}': {fact}"


def inherited_license(provenance: Any) -> str:
    """Return the licenses of the teacher and of the start that the run of a Limbeck encoder had, if it had any."""
    run = provenance.get("run") if isinstance(provenance, dict) else None
    sources = [run.get(key) for key in ("teacher", "start")] if isinstance(run, dict) else []
    licenses = [source.get("license") for source in sources if isinstance(source, dict)]
    return ", ".join(dict.fromkeys(found for found in licenses if isinstance(found, str) and found))


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
