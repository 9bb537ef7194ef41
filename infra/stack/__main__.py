"""`python -m infra.stack kafka|flink`: real servers until Ctrl-C; with a command behind it, for as long as that runs.
With `flink` a Flink cluster stands beside Kafka.

The command finds what Tidegate needs to know of them in its environment.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from threading import Event

from infra.stack.flink import FLINK, Flink
from infra.stack.kafka import STACK, Kafka


def main(which: str, command: list[str]) -> int:
    stop = Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())
    kafka = Kafka(STACK / "kafka").start()
    flink = Flink(STACK / "flink") if which == "flink" else None
    try:
        told = {"TIDEGATE_LOG": f"kafka://{kafka.servers}/demo"}
        if flink is not None:
            flink.start()
            python = str(FLINK / "bin" / "python")
            told |= {"TIDEGATE_FLINK": flink.url, "TIDEGATE_FLINK_PYTHON": python}
        if command:
            # The command has Ctrl-C of its own, and ends before the servers do.
            process = subprocess.Popen(command, env={**os.environ, **told})
            while process.poll() is None:
                if stop.wait(0.1):
                    process.send_signal(signal.SIGTERM)
                    process.wait()
            return process.returncode
        lines = "".join(f"    export {name}={value}\n" for name, value in told.items())
        print(f"The servers answer. For tidegate:\n\n{lines}\nCtrl-C stops them.", flush=True)
        stop.wait()
    finally:
        if flink is not None:
            flink.stop()
        kafka.stop()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], sys.argv[2:]))
