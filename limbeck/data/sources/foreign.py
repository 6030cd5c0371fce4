"""Files that other tools write and Limbeck does not read: named, with the way in."""

from collections.abc import Sequence
from os.path import basename, splitext
from pathlib import Path

from limbeck.core.errors import UserError
from limbeck.core.text import plural, printable

_EXTRACT = "unpack it and give the folder"
FORMATS: dict[str, tuple[str, str]] = {
    ".zip": ("a zip archive", _EXTRACT),
    ".rar": ("a RAR archive", _EXTRACT),
    ".7z": ("a 7z archive", _EXTRACT),
    ".tar.zst": ("a tar archive compressed with zstd", "decompress it with `unzstd` and give the .tar file"),
    ".tfrecord": ("a TFRecord file", "write its images into a folder or a tar file"),
    ".tfrecords": ("TFRecord files", "write their images into a folder or a tar file"),
    ".beton": ("an FFCV data set", "give the images that it was made from"),
    ".mds": ("a MosaicML shard", "write its images into a folder or a tar file"),
    ".rec": ("an MXNet RecordIO file", "write its images into a folder or a tar file"),
    ".mdb": ("an LMDB database", "write its images into a folder or a tar file"),
    ".lmdb": ("an LMDB database", "write its images into a folder or a tar file"),
    ".h5": ("an HDF5 file", "read it with h5py and give the arrays: limbeck.build_store((images, labels), OUT)"),
    ".hdf5": ("an HDF5 file", "read it with h5py and give the arrays: limbeck.build_store((images, labels), OUT)"),
    ".mat": ("a MATLAB file", "read it with scipy.io.loadmat and give the arrays to limbeck.build_store"),
    ".pt": ("a file of PyTorch", "load it and give its tensors as arrays to limbeck.build_store"),
    ".pkl": (
        "a pickle",
        "load it and give its arrays to limbeck.build_store; a pickle may run code, so trust its origin",
    ),
    ".arrow": ("an Arrow file of `datasets`", "limbeck.build_store(datasets.load_from_disk(FOLDER), OUT)"),
    ".dcm": ("a DICOM file", "convert the files to 16-bit PNG"),
    ".csv": ("a table of text", "give the folder of the images that it lists"),
    ".jsonl": ("a table of text", "give the folder of the images that it lists"),
    ".cr2": ("a raw photograph", "convert the files to TIFF, PNG or JPEG"),
    ".nef": ("a raw photograph", "convert the files to TIFF, PNG or JPEG"),
    ".dng": ("a raw photograph", "convert the files to TIFF, PNG or JPEG"),
    ".ts": (
        "a file of series",
        "`limbeck pretrain`, `evaluate` and `embed` take it as it is, other commands take images",
    ),
    ".tsv": ("a table of text or of series", "`limbeck pretrain`, `evaluate` and `embed` take series as they are"),
    ".svg": ("a vector drawing", "render the files as PNG"),
    ".pdf": ("a PDF document", "render the pages as PNG"),
    ".mp4": ("a video", "extract frames, for example with `ffmpeg -i FILE -r 1 frames/%06d.jpg`"),
    ".mov": ("a video", "extract frames, for example with `ffmpeg -i FILE -r 1 frames/%06d.jpg`"),
    ".avi": ("a video", "extract frames, for example with `ffmpeg -i FILE -r 1 frames/%06d.jpg`"),
}
"""End of a name -> what the file is, and the way in."""
NAMES: dict[str, tuple[str, str]] = {
    "data_batch_1": ("CIFAR-10 as pickles", "limbeck.build_store(torchvision.datasets.CIFAR10(FOLDER), OUT)"),
    "train-images-idx3-ubyte": ("MNIST", "limbeck.build_store(torchvision.datasets.MNIST(FOLDER), OUT)"),
    "train_X.bin": ("STL-10", "limbeck.build_store(torchvision.datasets.STL10(FOLDER), OUT)"),
}
"""The same for whole names, without `.gz`."""


def way_in(names: Sequence[str]) -> str:
    """Return a sentence on the first file that another tool wrote; "" where there is none."""
    for name in names:
        base = basename(name)
        found = NAMES.get(base.removesuffix(".gz"))
        found = found or next((what for end, what in FORMATS.items() if base.lower().endswith(end)), None)
        if found:
            return f"'{printable(name)}' is {found[0]}: {found[1]}"
    return ""


def no_images(folder: Path, names: Sequence[str]) -> UserError:
    """Return the error for a folder that holds these files and no image."""
    files = f"{plural(len(names), 'file')} with other suffixes, such as {splitext(names[0])[1] or printable(names[0])}"
    hint = way_in(names)
    return UserError(f"'{folder}' holds no image, only {files}{hint and '; ' + hint}", code="no-images")


def unknown_files(files: Sequence[Path], name: str, options: str) -> UserError:
    """Return the error for files that are no source."""
    hint = way_in([str(file) for file in files]) or f"give {options}"
    return UserError(f"'{name}' is not a source of images: {hint}", code="unknown-source")
