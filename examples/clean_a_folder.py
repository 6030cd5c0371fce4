"""Find unreadable files, duplicates and images that a test set shares, before anything is trained on them.

    python examples/clean_a_folder.py

Takes a few seconds.
"""

import shutil
from pathlib import Path

import limbeck
from limbeck.data.samples import write_digits
from limbeck.neighbors.near_duplicate_report import find_near_duplicates


def main(out: Path = Path("out/clean")) -> None:
    """Write a folder with typical trouble, what a check finds in it, and a store of the rest, into the folder `out`."""
    photos, test = out / "digits" / "train", out / "digits" / "test"
    write_digits(out / "digits")
    (photos / "3" / "broken.png").write_bytes(b"")
    shutil.copy(min(photos.glob("3/0*.png")), photos / "3" / "copy.png")
    shutil.copy(min(test.glob("5/*.png")), photos / "5" / "leaked.png")

    found = limbeck.check(photos, out / "check", build_store=out / "store", leave_out=["duplicate"])
    print(found.summary())
    for issue, count in found.stats.found.items():
        print(f"  {issue}: {count}")

    store = limbeck.open_store(out / "store")
    near = find_near_duplicates(store, limbeck.open_store(test), threshold=0.999)
    print(near.sentence())
    print(f"listed in {near.write(out / 'check')}")


if __name__ == "__main__":
    main()
