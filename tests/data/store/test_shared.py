"""Processes that read the same store have its pixels once: they map its files, and none has a copy."""

import multiprocessing as mp
import pickle
import sys
from dataclasses import replace
from multiprocessing.context import BaseContext
from typing import Any

import numpy as np
import pytest

from limbeck.data.store.layout import Keep
from limbeck.data.store.open import build_store
from limbeck.data.store.store import Store
from tests.helpers.forks import FORKS
from tests.helpers.mappings import read_store

ROWS, SIZE = 200, 128
QUALITY: dict[Keep, int | None] = {"raw": None, "jpeg": 90}


@pytest.fixture(scope="module", params=QUALITY)
def store(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Store:
    images = (
        np.random.default_rng(0).integers(0, 256, (ROWS, SIZE // 8, SIZE // 8, 3), np.uint8).repeat(8, 1).repeat(8, 2)
    )
    out = tmp_path_factory.mktemp("shared") / "store"
    return build_store((images, np.arange(ROWS) % 10), out, keep=request.param, quality=QUALITY[request.param])


def read_in(context: BaseContext, store: Store) -> Any:
    ours, theirs = context.Pipe()
    process = context.Process(target=read_store, args=(store, theirs))  # type: ignore[attr-defined]
    process.start()
    theirs.close()  # so that `recv` ends if the process does
    found = ours.recv()
    process.join()
    return found


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.parametrize("context", [mp.get_context("fork"), FORKS], ids=["forked", "sent"])
def test_a_process_maps_the_files_and_copies_nothing(context: BaseContext, store: Store) -> None:
    """Pages without a private copy are those of the system's cache of files, which all processes share.

    A private copy is anonymous; pages that are only not yet on the disk are not.
    """
    mappings, total = read_in(context, store)
    assert mappings["Rss"] > 0
    assert mappings["Anonymous"] == mappings["Swap"] == 0
    assert total == int(store.images[:].sum())


def test_a_store_is_sent_without_its_pixels(store: Store) -> None:
    sent = pickle.dumps(store)
    assert len(sent) < 100 * ROWS  # labels, sizes, places
    received = pickle.loads(sent)
    assert vars(received).keys() == vars(store).keys()
    assert (received.digest, received.path, received.label_names) == (store.digest, store.path, store.label_names)
    for name in ("labels", "widths", "heights", "images"):
        assert np.array_equal(getattr(received, name)[::7], getattr(store, name)[::7])


def test_what_was_replaced_is_sent_as_it_is(store: Store) -> None:
    changed = replace(store, labels=store.labels[::-1].copy(), images=store.images[10:20])
    received = pickle.loads(pickle.dumps(changed))
    assert np.array_equal(received.labels, changed.labels)
    assert np.array_equal(np.asarray(received.images), np.asarray(changed.images))
