"""Names of weights in public checkpoints, mapped to those of timm's networks.

torchvision's ResNets and the ViTs of DINO, DINOv2 and MoCo v3 name their parameters as timm does, inside wrappers:
`base_encoder.` and `momentum_encoder.` (MoCo v3), `encoder_q.` (MoCo v2), `teacher.backbone.` and `student.backbone.`
(DINO, DINOv2), `backbone.` (lightly, solo-learn, MMSelfSup). What differs within the network, such as the register
tokens and the SwiGLU layers of DINOv2, is converted by timm.
"""

from collections import Counter
from collections.abc import Mapping

import torch
from torch import Tensor

from limbeck.core.resolved import Resolved
from limbeck.core.text import plural
from limbeck.models.weights import listed

Shapes = Mapping[str, torch.Size]

# Parts of the prefix of a network that the authors do not evaluate, or evaluate second, if there is another one
SECOND_CHOICE = ("momentum", "encoder_k", "student", "target", "key")

# First parts of the names of what follows a backbone; heads under other names count as unexpected
HEADS = frozenset(
    (
        *("fc", "head", "heads", "classifier", "last_linear", "projector", "projection", "projection_head"),
        *("predictor", "prediction_head", "prototypes", "dino_head", "ibot_head", "queue", "queue_ptr"),
    )
)
COUNTER = "num_batches_tracked"  # of BatchNorm; older checkpoints have none


def fit_names(weights: Mapping[str, Tensor], shapes: Shapes) -> Resolved[dict[str, Tensor]]:
    """Return the weights under the names of the network with these `shapes`, and what was done for it.

    Names lose the prefix of the network within the checkpoint; heads and other networks are left out. If the names then
    do not cover the network, tensors are matched by their order, provided that every shape and every last part of a
    name (`weight`, `bias`, ...) fits. What remains is for `load_state_dict` to refuse.
    """
    prefix = _prefix(weights, shapes)
    own = {name.removeprefix(prefix): tensor for name, tensor in weights.items() if name.startswith(prefix)}
    found = {name: tensor for name, tensor in own.items() if name in shapes or name.split(".")[0] not in HEADS}
    notes = [f"names without their prefix '{prefix}'"] if prefix else []
    if not _required(shapes) <= {*found} and (ordered := _by_order(found, shapes)):
        (old, new), count = next(iter(ordered.items())), len(ordered)
        notes.append(
            f"{plural(count, 'tensor')} matched by order and shape, as their names differ ('{old}' is '{new}')"
        )
        found = {new: found[old] for old, new in ordered.items()}
    used = {id(tensor) for tensor in found.values()}
    if unused := [name for name, tensor in weights.items() if id(tensor) not in used]:
        notes.append(f"{plural(len(unused), 'tensor')} of heads or other networks left out ({listed(unused)})")
    return Resolved(found, notes)


def _prefix(weights: Mapping[str, Tensor], shapes: Shapes) -> str:
    """Return the prefix of the network's names in the checkpoint, if at least half of them have it."""
    found: Counter[str] = Counter()
    for name in weights:
        parts = name.split(".")
        for start in range(len(parts)):
            if ".".join(parts[start:]) in shapes:
                found[".".join([*parts[:start], ""])] += 1
    best = max(found, key=lambda prefix: (found[prefix], not _is_second(prefix)), default="")
    return best if 2 * found[best] >= len(_required(shapes)) else ""


def _is_second(prefix: str) -> bool:
    return any(word in prefix for word in SECOND_CHOICE)


def _required(shapes: Shapes) -> set[str]:
    return {name for name in shapes if not name.endswith(COUNTER)}


def _by_order(weights: Mapping[str, Tensor], shapes: Shapes) -> dict[str, str]:
    """Return name in the checkpoint -> name in the network if order, shapes and last parts fit; {} if they do not.

    A checkpoint that is sorted by name never fits, because `bias` then comes before `weight`.
    """
    old = [name for name in weights if not name.endswith(COUNTER)]
    new = [name for name in shapes if not name.endswith(COUNTER)]
    pairs = dict(zip(old, new, strict=False))
    fits = len(old) >= len(new) and all(
        weights[before].shape == shapes[after] and before.split(".")[-1] == after.split(".")[-1]
        for before, after in pairs.items()
    )
    return pairs if fits else {}
