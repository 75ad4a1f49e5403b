"""Alignments as tables: `phone,start_s,end_s`."""

import csv
import io
from pathlib import Path

from jaxvoice.data.aligned.alignment import Interval, Misfit
from jaxvoice.data.aligned.files import number, read_text

COLUMNS = ("phone", "start_s", "end_s")


def read_table(path: str | Path) -> list[Interval]:
    """The intervals of a CSV file whose first line names the columns `phone`, `start_s` and `end_s` (seconds).

    The columns may stand in any order, and others beside them.

    **Raises:** `Misfit` (a `DataError`) if the file cannot be read, a column is missing, or a time is no number.
    """
    path = Path(path)
    rows = csv.DictReader(io.StringIO(read_text(path), newline=""), skipinitialspace=True)
    intervals = []
    try:
        missing = [name for name in COLUMNS if name not in (rows.fieldnames or ())]
        if missing:
            raise Misfit(
                "broken", f"{path} lacks the column {missing[0]!r}; its first line should be phone,start_s,end_s."
            )
        for row in rows:
            values = [row[name] for name in COLUMNS]
            if None in values:
                raise Misfit("broken", f"{path}, line {rows.line_num}: fewer values than columns; mend the file.")
            times = [number(value, path, f"a time in line {rows.line_num}") for value in values[1:]]
            intervals.append(Interval(values[0], *times))
    except csv.Error as failure:
        raise Misfit("broken", f"{path} is no table ({failure}); export it again.") from failure
    if not intervals:
        raise Misfit("broken", f"{path} holds no phones; make it again.")
    return intervals
