"""`testbed kernel build|path`: the guest kernel."""

import sys

import typer

from testbed.cli.answer import FAILED, AsJson, answering, say_json, stop

app = typer.Typer(help="The guest kernel: built once, kept in the cache.", no_args_is_help=True)


@app.command("path")
def path(as_json: AsJson = False) -> None:
    """Print where the guest kernel is. Exit code 1 when it is not built."""
    from testbed.kernel.build import installed

    kernel = installed()
    if kernel is None:
        raise stop(FAILED, "the guest kernel is not built: `testbed kernel build`", as_json)
    _say(str(kernel), as_json)


@app.command("build")
def build(as_json: AsJson = False) -> None:
    """Build the guest kernel unless it is there, and print where it is. Takes some minutes."""
    from testbed.kernel.build import KernelBuildFailed, PlainProgress
    from testbed.kernel.build import build as build_kernel

    with answering(as_json, failed=(KernelBuildFailed,)):
        kernel = build_kernel(PlainProgress(lambda text: print(text, file=sys.stderr, flush=True)))
    _say(str(kernel), as_json)


def _say(kernel: str, as_json: bool) -> None:
    if as_json:
        say_json({"kernel": kernel})
    else:
        print(kernel)
