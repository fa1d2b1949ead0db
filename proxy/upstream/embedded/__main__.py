"""`python -m proxy.upstream.embedded`: the command line of the embedded L1.

Usually `launch.ensure` runs it; by hand it gives a development node without a daemon:
    python -m proxy.upstream.embedded --socket DIR/dev-l1.ipc [--fund ADDRESS=WEI]... [--port N]
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from proxy.upstream.embedded.arguments import address_and_wei, port


def parse(arguments: Sequence[str]) -> argparse.Namespace:
    """Read the command line; ends the process with 2 and one sentence if it is wrong."""
    parser = argparse.ArgumentParser(
        prog="python -m proxy.upstream.embedded", description="A development L1 in memory."
    )
    parser.add_argument(
        "--socket", type=Path, required=True, metavar="PATH", help="unix socket to serve, in a 0700 directory"
    )
    parser.add_argument("--fund", type=address_and_wei, action="append", default=[], metavar="ADDRESS=WEI")
    parser.add_argument("--port", type=port, metavar="N", help="also serve HTTP POST on 127.0.0.1:N (0: any free port)")
    parser.add_argument("--ready-fd", type=int, metavar="FD", help="descriptor that gets the ready line as well")
    parser.add_argument("--lock-fd", type=int, metavar="FD", help="descriptor that is closed once the node is ready")
    parser.add_argument("--detach", action="store_true", help="go on in a process of its own, in a session of its own")
    return parser.parse_args(arguments)


def detach() -> None:
    """Leave the starting process behind, which sees this one end at once and has nothing to wait for later."""
    if os.fork():
        os._exit(0)
    os.setsid()


def main(arguments: Sequence[str]) -> int:
    """Run the node; returns the exit code."""
    options = parse(arguments)
    if options.detach:
        detach()
    # Only now: py-evm takes most of a second to import, and --help and usage errors need not wait for it.
    from proxy.upstream.embedded.process import Options, StartError, serve

    try:
        serve(
            Options(
                socket=options.socket.absolute(),
                fund=dict(options.fund),
                port=options.port,
                ready_fd=options.ready_fd,
                lock_fd=options.lock_fd,
            )
        )
    except StartError as error:
        sys.stderr.write(f"embedded L1: {error}\n")
        return 1
    return 0


if __name__ == "__main__":
    code = main(sys.argv[1:])
    sys.stdout.flush()
    sys.stderr.flush()
    # A call may still be running on the worker thread; its answer has nobody left to go to, and the state ends here anyway.
    os._exit(code)
