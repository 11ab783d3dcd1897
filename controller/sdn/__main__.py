"""The SDN application's process.

Run: `python -m controller.sdn --openflow 127.0.0.1:6653 --socket run/sdn.sock [--period 1.0] [--log run/sdn.log]`.

Ends on SIGTERM or SIGINT with 0; with 2 for bad arguments or when a socket cannot be bound.
"""

import argparse
import logging
import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

os.environ["OSKEN_HUB_TYPE"] = "native"  # read when os-ken is first imported

PERIOD_MIN_S, PERIOD_MAX_S = 0.01, 3600.0


class Stopped(Exception):
    """A signal asked the process to end."""


def _address(text: str) -> tuple[str, int]:
    host, _, port = text.rpartition(":")
    if not host or not port.isascii() or not port.isdigit() or not 0 < int(port) < 65536:
        raise argparse.ArgumentTypeError(f"{text!r} is not an address; write HOST:PORT, as 127.0.0.1:6653")
    return host, int(port)


def _period(text: str) -> float:
    try:
        period_s = float(text)
    except ValueError:
        period_s = 0.0
    if not PERIOD_MIN_S <= period_s <= PERIOD_MAX_S:
        raise argparse.ArgumentTypeError(f"{text!r} is not a period; write seconds, {PERIOD_MIN_S} to {PERIOD_MAX_S:g}")
    return period_s


def arguments(argv: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="controller.sdn", description="link state, paths and flows by OpenFlow 1.3")
    parser.add_argument("--openflow", type=_address, default=("127.0.0.1", 6653), help="where switches connect to")
    parser.add_argument("--socket", type=Path, required=True, help="Unix socket of the LinkState service")
    parser.add_argument("--period", type=_period, default=1.0, help="seconds between two reports")
    parser.add_argument("--log", type=Path, help="log file; standard error without")
    return parser.parse_args(argv)


def _stop(signum: int, _frame: object) -> NoReturn:
    raise Stopped(signal.Signals(signum).name)


def run(options: argparse.Namespace) -> int:
    """Serves until a signal comes; returns the exit code."""
    from os_ken.base.app_manager import AppManager
    from os_ken.cfg import CONF
    from os_ken.controller import controller as _register_options  # noqa: F401
    from os_ken.lib import hub

    from controller.sdn.server import Board, SocketUnusable, report, serve

    log = logging.getLogger("sdn")
    CONF(args=[], project="os_ken", default_config_files=[], default_config_dirs=[])
    CONF.set_override("ofp_listen_host", options.openflow[0])
    CONF.set_override("ofp_tcp_listen_port", options.openflow[1])
    board = Board()
    try:
        server = serve(board, options.socket)
    except SocketUnusable as why:
        log.error("%s", why)
        return 2
    manager = AppManager.get_instance()
    manager.load_apps(["controller.sdn.app"])
    services = manager.instantiate_apps(
        period_us=round(options.period * 1_000_000),
        publish=lambda state, now_us: board.publish(report(state, now_us)),
    )
    hub.joinall(services)  # the OpenFlow listener; it ends only when it could not listen
    server.stop(grace=None)
    log.error("cannot listen for switches on %s:%d; is the port taken?", *options.openflow)
    return 2


def main(options: argparse.Namespace) -> int:
    target = {"filename": options.log} if options.log else {"stream": sys.stderr}
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s %(name)s %(message)s", **target)
    logging.getLogger("sdn").setLevel(logging.INFO)
    signal.signal(signal.SIGTERM, _stop)
    signal.signal(signal.SIGINT, _stop)
    try:
        return run(options)
    except Stopped as why:
        logging.getLogger("sdn").info("stopped by %s", why)
        return 0


if __name__ == "__main__":
    chosen = arguments(sys.argv[1:])
    code = 1
    try:
        code = main(chosen)
    except Exception:  # the process ends here, and must: os-ken's threads would keep it
        logging.getLogger("sdn").exception("ended by a fault")
    logging.shutdown()
    os._exit(code)  # os-ken's native threads cannot be ended and are not daemons
