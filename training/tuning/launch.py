"""python launch.py PARENT COMMAND...: becomes a command that gets no Ctrl-C, and SIGTERM when its parent ends.

A terminal sends Ctrl-C to all: whoever started the command stops it, so that it saves first. The same could be done
between fork and exec, which Python calls unsafe where there are threads, and the line that shows progress is one.
"""

import ctypes
import os
import signal
import sys

_SET_DEATH_SIGNAL = 1
"""PR_SET_PDEATHSIG of linux/prctl.h."""


def main() -> None:
    """Replaces this process by the command."""
    parent, *command = sys.argv[1:]
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if sys.platform == "linux":  # elsewhere, it goes on when its parent is killed
        ctypes.CDLL(None).prctl(_SET_DEATH_SIGNAL, signal.SIGTERM)
    if os.getppid() != int(parent):
        sys.exit(f"process {parent}, which started this one, has ended")
    os.execv(command[0], command)


if __name__ == "__main__":
    main()
