"""Augmentation recipes: the views of the methods, with the source of every constant.

Sources, by the short names used below:

* SimCLR: Chen et al., ICML 2020, appendix A and B.9 (CIFAR-10), and google-research/simclr `data_util.py`.
* MoCo v2: Chen et al., arXiv 2003.04297, and facebookresearch/moco `main_moco.py --aug-plus`.
* BYOL: Grill et al., NeurIPS 2020, table 6. MoCo v3 (facebookresearch/moco-v3) and SDSSL (hagiss/SDSSL) use its pair.
* W-MSE: Ermolov et al., ICML 2021, and htdt/self-supervised `cfg.py` and `transforms.py`.
* SwAV: Caron et al., NeurIPS 2020, and facebookresearch/swav `main_swav.py`, `src/multicropdataset.py`.
* DINO: Caron et al., ICCV 2021, and facebookresearch/dino 7c446df `main_dino.py`.
* EMP-SSL: Tong et al., arXiv 2304.03977, and tsb0601/EMP-SSL 8fc3758 `dataset/aug.py`.
* ReSSL: Zheng et al., NeurIPS 2021, and KyleZheng1997/ReSSL `ressl.py`, `ressl_multi.py`; CGH uses its views.
* AutoLink: xingzhehe/AutoLink 3fbde11 `datasets/h36m.py`.
* MoBYv2AL: Caramalau et al., BMVC 2022, section 4.
* MSVQ: Peng et al., KBS 2024, and pc-cp/MSVQ.

Images of `SMALL` pixels or fewer get the small-image variant: no blur (SimCLR leaves it out on CIFAR-10, B.9) and,
where the authors give one, their weaker jitter.
"""

from dataclasses import dataclass, replace
from typing import Literal

from limbeck.core.errors import UserError, did_you_mean

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)

SMALL = 64  # pixels: the largest size of the small-image variants (CIFAR, Tiny ImageNet, digits)


@dataclass(frozen=True, kw_only=True)
class View:
    """Distribution of a random view: crop, flip, jitter, gray, blur, solarize (or jitter and gray first)."""

    size: int  # pixels, height and width of the result
    scale: tuple[float, float] = (0.08, 1.0)  # share of the original area
    ratio: tuple[float, float] = (3 / 4, 4 / 3)  # width / height of the crop in the original image
    interpolation: Literal["bilinear", "bicubic"] = "bilinear"
    flip: float = 0.5  # probability, as are the next ones unless said
    jitter: tuple[float, float, float, float] = (0.0, 0.0, 0.0, 0.0)  # strengths: brightness, contrast, saturation, hue
    jitter_p: float = 0.0
    jitter_first: bool = False
    grayscale: float = 0.0
    blur: float = 0.0
    blur_sigma: tuple[float, float] = (0.1, 2.0)  # pixels of the result
    solarize: float = 0.0
    mean: tuple[float, float, float] = IMAGENET_MEAN  # of the normalization, for pixels in [0, 1]
    std: tuple[float, float, float] = IMAGENET_STD


def _simclr(size: int) -> tuple[View, ...]:
    """SimCLR: color strength 1, and 0.5 on small images (B.9)."""
    jitter = (0.4, 0.4, 0.4, 0.1) if size <= SMALL else (0.8, 0.8, 0.8, 0.2)
    view = View(size=size, jitter=jitter, jitter_p=0.8, grayscale=0.2, blur=0.5)
    return view, view


def _mocov2(size: int) -> tuple[View, ...]:
    """MoCo v2 (`--aug-plus`)."""
    view = View(size=size, scale=(0.2, 1.0), jitter=(0.4, 0.4, 0.4, 0.1), jitter_p=0.8, grayscale=0.2, blur=0.5)
    return view, view


def _byol(size: int) -> tuple[View, ...]:
    """BYOL's asymmetric pair: the first view always blurred, the second seldom blurred and sometimes solarized."""
    first = View(size=size, jitter=(0.4, 0.4, 0.2, 0.1), jitter_p=0.8, grayscale=0.2, blur=1.0)
    return first, replace(first, blur=0.1, solarize=0.2)


def _wmse(size: int) -> tuple[View, ...]:
    """W-MSE: jitter on the whole image, then a bicubic crop; the small variant is that of CIFAR and Tiny ImageNet."""
    first = View(size=size, interpolation="bicubic", jitter_first=True, jitter_p=0.8)
    if size <= SMALL:
        view = replace(first, scale=(0.2, 1.0), jitter=(0.4, 0.4, 0.4, 0.1), grayscale=0.1)
    else:
        view = replace(first, jitter=(0.8, 0.8, 0.8, 0.2), grayscale=0.2, blur=0.5)
    return view, view


def _weak(size: int) -> tuple[View, ...]:
    """Crop and flip alone: the weak view of SimReg and of MSF (Koohpayegani et al., 2021)."""
    view = View(size=size, scale=(0.2, 1.0))
    return view, view


def _light(size: int) -> tuple[View, ...]:
    """Students of the vectors of whole images: a square crop of most of the image, and flip."""
    view = View(size=size, scale=(0.6, 1.0), ratio=(1.0, 1.0))
    return view, view


def _flip(size: int) -> tuple[View, ...]:
    """Keypoints, as AutoLink trains them: the whole image, or the middle of one that is not square, and flip."""
    return (View(size=size, scale=(1.0, 1.0), ratio=(1.0, 1.0)),)


def _multicrop(size: int) -> tuple[View, ...]:
    """SwAV: two global crops of `size`, six local ones."""
    large = View(size=size, scale=(0.14, 1.0), jitter=(0.8, 0.8, 0.8, 0.2), jitter_p=0.8, grayscale=0.2, blur=0.5)
    return (large,) * 2 + (local_crop(large),) * 6


def _dino(size: int) -> tuple[View, ...]:
    """DINO: BYOL's pair with larger crops as global ones, eight local ones; bicubic."""
    first, second = (replace(view, scale=(0.4, 1.0), interpolation="bicubic") for view in _byol(size))
    local = replace(first, size=_share(size, 96), scale=(0.05, 0.4), blur=0.5)
    return first, second, *(local,) * 8


def _empssl(size: int) -> tuple[View, ...]:
    """EMP-SSL: a square crop of a quarter of the image; a method repeats it."""
    jitter = (0.4, 0.4, 0.4, 0.2)
    crop = View(size=size, scale=(0.25, 0.25), ratio=(1.0, 1.0), jitter=jitter, jitter_p=0.8, grayscale=0.2)
    return (replace(crop, blur=0.1, solarize=0.1),)


def _ressl(size: int) -> tuple[View, ...]:
    """ReSSL: MoCo v2's view for the student, then crop and flip for the EMA encoder."""
    return _mocov2(size)[0], _weak(size)[0]


def _ressl_multicrop(size: int) -> tuple[View, ...]:
    """ReSSL with five crops of decreasing size and area for the student; the weak view of the EMA encoder is last."""
    strong, weak = _ressl(size)
    crops = ((224, 0.2, 1.0), (192, 0.172, 0.86), (160, 0.143, 0.715), (128, 0.114, 0.571), (96, 0.086, 0.429))
    students = (replace(strong, size=_share(size, side), scale=(least, most)) for side, least, most in crops)
    return *students, weak


def _msvq(size: int) -> tuple[View, ...]:
    """MSVQ: one strong view for the student and three weak ones, mostly flipped, for its two EMA encoders."""
    strong, weak = _ressl(size)
    return strong, *(replace(weak, flip=0.9),) * 3


def _mobyv2al(size: int) -> tuple[View, ...]:
    """MoBYv2AL: a strong view, and a weak one of a crop and a flip; its crop is a shift by up to an eighth there."""
    jitter = (0.4, 0.4, 0.2, 0.1)
    strong = View(size=size, scale=(0.2, 1.0), jitter=jitter, jitter_p=0.8, grayscale=0.2, blur=0.2, solarize=0.2)
    return strong, View(size=size, scale=(0.75, 1.0), ratio=(1.0, 1.0))


def _supervised(size: int) -> tuple[View, ...]:
    """Supervised training of ResNets (CoNe): one view, crop and flip."""
    return (View(size=size),)


def local_crop(view: View) -> View:
    """Return SwAV's local crop for a global one: 96/224 of its side, 5 to 14 % of the image."""
    return replace(view, size=_share(view.size, 96), scale=(0.05, 0.14))


def _share(size: int, side: int) -> int:
    """Scale `side` from 224 to `size` pixels and round to a multiple of 8, for the patches."""
    return max(8, 8 * round(size * side / 224 / 8))


_RECIPES = {
    "simclr": _simclr,
    "mocov2": _mocov2,
    "byol": _byol,
    "wmse": _wmse,
    "weak": _weak,
    "light": _light,
    "flip": _flip,
    "multicrop": _multicrop,
    "dino": _dino,
    "empssl": _empssl,
    "ressl": _ressl,
    "ressl-multicrop": _ressl_multicrop,
    "msvq": _msvq,
    "mobyv2al": _mobyv2al,
    "supervised": _supervised,
}
PRESETS = tuple(_RECIPES)


def preset(name: str, size: int) -> tuple[View, ...]:
    """Return the views of the recipe `name` for images of `size` pixels, global views first.

    Raises:
        UserError: `name` is none of `PRESETS`, or `size` is below 8 pixels.
    """
    if name not in _RECIPES:
        raise UserError(
            f"unknown views '{name}'{did_you_mean(name, PRESETS)}: choose one of {', '.join(PRESETS)}",
            code="unknown-views",
        )
    if size < 8:
        raise UserError(f"views of {size} pixels are too small: choose a size of at least 8", code="views-too-small")
    views = _RECIPES[name](size)
    return tuple(replace(view, blur=0.0) for view in views) if size <= SMALL else views
