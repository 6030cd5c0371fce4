"""Work on threads, in the order of the items.

Threads, not processes: Pillow decodes and resizes without holding the interpreter's lock, and pixels need no copy. Tiny
images are bound by the lock, but then one thread stores about 5,000 a second (32 px JPEGs of a parquet file).
"""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from typing import TypeVar

T = TypeVar("T")
R = TypeVar("R")


def batched(items: Iterator[T], size: int) -> Iterator[list[T]]:
    """Yield lists of `size` items, the last one shorter."""
    while chunk := list(islice(items, size)):
        yield chunk


def ordered_map(function: Callable[[T], R], items: Iterable[T], workers: int) -> Iterator[R]:
    """`map` on threads, in the order of the items, with at most two items per worker taken in advance."""
    pending: deque[Future[R]] = deque()
    with ThreadPoolExecutor(workers) as pool:
        try:
            for item in items:
                pending.append(pool.submit(function, item))
                if len(pending) > 2 * workers:
                    yield pending.popleft().result()
            while pending:
                yield pending.popleft().result()
        finally:
            pool.shutdown(cancel_futures=True)
