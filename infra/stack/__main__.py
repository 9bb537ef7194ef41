"""`python -m infra.stack`: real servers until Ctrl-C; with a command behind it, for as long as that runs.

The command finds TIDEGATE_LOG in its environment.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from threading import Event

from infra.stack.kafka import STACK, Kafka


def main(command: list[str]) -> int:
    stop = Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())
    kafka = Kafka(STACK / "kafka").start()
    address = f"kafka://{kafka.servers}/demo"
    try:
        if command:
            # The command has Ctrl-C of its own, and ends before the servers do.
            process = subprocess.Popen(command, env={**os.environ, "TIDEGATE_LOG": address})
            while process.poll() is None:
                if stop.wait(0.1):
                    process.send_signal(signal.SIGTERM)
                    process.wait()
            return process.returncode
        print(f"Kafka answers. For tidegate:\n\n    export TIDEGATE_LOG={address}\n\nCtrl-C stops it.", flush=True)
        stop.wait()
    finally:
        kafka.stop()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
