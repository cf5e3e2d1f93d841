"""Ends the processes of a supervisor that was killed. It waits on a pipe that closes when the supervisor ends.

`python -m qexplorer_site.guardian GRACE_S`; each line of the pipe names a process to end, or `-PID` to forget it.
"""

import signal
import sys

from qexplorer_site.processes import stop_all


def main() -> None:
    # A terminal's Ctrl-C or a service manager's stop reaches the supervisor too; this process has to outlive it.
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    pids: set[int] = set()
    for line in sys.stdin:
        number = int(line)
        if number < 0:
            pids.discard(-number)
        else:
            pids.add(number)
    stop_all(pids, float(sys.argv[1]))


if __name__ == "__main__":
    main()
