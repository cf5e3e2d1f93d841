"""`python -m training.tied NICENESS MODULE ARGUMENT…`: run a module that ends with the process that started it.

Its standard input is a pipe whose other end that process holds. The kernel closes it when that process dies, however it
dies; this one and everything it started (its process group) are then killed at once. So no training goes on unseen
while the queue hands its run to another worker.
"""

import os
import runpy
import signal
import sys
import threading


def main(arguments: list[str]) -> None:
    niceness, module, *rest = arguments
    os.nice(max(0, int(niceness) - os.nice(0)))
    threading.Thread(target=_end_with_starter, daemon=True).start()
    sys.argv = [module, *rest]
    runpy.run_module(module, run_name="__main__", alter_sys=True)


def _end_with_starter() -> None:
    while os.read(0, 4096):
        pass
    os.killpg(0, signal.SIGKILL)


if __name__ == "__main__":
    main(sys.argv[1:])
