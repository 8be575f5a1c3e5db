"""`powermem` and `python -m powermem_cli`: what runs before anything else is loaded."""

import signal

if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
    # Ctrl-C ends a command at once, wherever it loads or waits: SQLite needs no goodbye. A long job has its way, in add.
    signal.signal(signal.SIGINT, signal.SIG_DFL)

from powermem_cli.cli import main

if __name__ == "__main__":
    main()
