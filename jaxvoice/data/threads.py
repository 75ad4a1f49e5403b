"""Work on many files in threads, in order, with a bounded number of results in memory."""

import os
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")


def map_in_threads(
    function: Callable[[Item], Result],
    items: Sequence[Item],
    threads: int | None = None,
    progress: str | None = None,
) -> Iterator[Result]:
    """Yield `function(item)` for every item, in order; at most four results for each thread are held.

    `threads` is by default the number of processors, at most 8. `progress` names a progress bar on standard error.
    An exception of `function` is raised here.
    """
    count = threads or min(8, os.cpu_count() or 1)
    waiting: deque[Future[Result]] = deque()
    if progress is not None:
        from tqdm import tqdm

        bar = tqdm(total=len(items), desc=progress, unit="file", disable=None)
    else:
        bar = None
    pool = ThreadPoolExecutor(count, thread_name_prefix="jaxvoice-data")
    try:
        for item in items:
            waiting.append(pool.submit(function, item))
            if len(waiting) >= 4 * count:
                yield waiting.popleft().result()
                if bar is not None:
                    bar.update()
        while waiting:
            yield waiting.popleft().result()
            if bar is not None:
                bar.update()
    finally:
        pool.shutdown(cancel_futures=True)
        if bar is not None:
            bar.close()
