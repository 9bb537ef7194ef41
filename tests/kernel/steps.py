"""Prints, as JSON, how many links between rows the window engine follows for each of some rows of one hot key, in order
and a little out of order, some of them labelled soon. To be run with NUMBA_DISABLE_JIT=1: only then can the steps be
counted.
"""

import json
import random
import sys

from tests.kernel.twin import Label, Row, to_arrivals

from tidegate.kernel.plan import Aggregate, Entity, LabelLane, Window, WindowPlan
from tidegate.kernel.windows import counting, extremes, frames, occurrences, rowlog
from tidegate.kernel.windows.windows import Windows

ROWS_COUNTED = 100

#: So many rows after it, and of so many one, a row is labelled.
LABELLED_AFTER = 5

followed = 0
link = rowlog.link


def counted_link(rows, row, half):
    global followed  # noqa: PLW0603 - the function it stands for has no place for a counter
    followed += 1
    return link(rows, row, half)


def main(rows_in_frame):
    plan = WindowPlan(
        entities=(Entity(("merchant",)),),
        windows=(
            *(Window(0, rows_in_frame), Window(0, rows_in_frame, rows_in_frame // 3)),
            *(Window(0, 2 * rows_in_frame, rows=(rows_in_frame, edge)) for edge in (0, rows_in_frame // 3)),
            Window(0, rows_in_frame, gap_us=20),
        ),
        lanes=(0, 0, 1),
        # What counts once a label says fraud, and a value that all rows share.
        label_lanes=(LabelLane(1, if_fraud=0, if_genuine=1),),
        aggregates=(
            *(
                Aggregate(function, window, 0)
                for window in range(5)
                for function in ("count", "sum", "min", "max", "count_distinct", "first_known", "last_known")
            ),
            *(Aggregate(function, window, 1) for window in range(5) for function in ("count", "max")),
            *(Aggregate("count_distinct", window, 2) for window in range(5)),
        ),
        lateness_us=10,
        dedupe_us=0,
        ahead_us=10,
    )
    chance = random.Random(7)
    for module in (rowlog, extremes, counting, frames, occurrences):
        module.link = counted_link
    windows, steps = Windows(plan), []
    for time in range(2 * rows_in_frame + ROWS_COUNTED):
        before = followed
        row = Row(time - chance.choice((0, 0, 0, 1, 3)), time, ("hot",), (chance.randrange(10**6), None, 1))
        label = [Label(time, time - LABELLED_AFTER, fraud=True)] if time % LABELLED_AFTER == 0 else []
        windows.apply(to_arrivals(plan, [row, *label]))
        steps.append(followed - before)
    sys.stdout.write(json.dumps(steps[-ROWS_COUNTED:]))


if __name__ == "__main__":
    main(int(sys.argv[1]))
