"""`powermem` and `python -m powermem_cli`: what runs before anything else is loaded."""

import os
import signal
import sys

if __name__ == "__main__" and sys.path[:1] == [os.getcwd()] != [os.path.dirname(os.path.dirname(__file__))]:  # noqa: PTH109, PTH120 - pathlib would be loaded from there
    # `python -m` would take httpx.py, json.py and all else from the folder it is called in, whoever wrote them.
    del sys.path[0]

if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
    # Ctrl-C ends a command at once, wherever it loads or waits: SQLite needs no goodbye. A long job has its way, in add.
    signal.signal(signal.SIGINT, signal.SIG_DFL)

from powermem_cli.cli import main

if __name__ == "__main__":
    main()
