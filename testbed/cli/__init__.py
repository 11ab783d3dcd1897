"""The command line: `testbed run|compare|repeat|validate|why|calibrate|profile|doctor|trace|topology|kernel`.

Rules: standard output carries the result and nothing else, progress and complaints go to standard error; exit code 0
done, 1 it could not be done, 2 the input is wrong, 130 interrupted. What a command needs is imported when it runs.
"""

import sys

import typer

from testbed.cli import calibrate, doctor, kernel, profile, repeat, run, topology, trace, why

app = typer.Typer(
    name="testbed",
    help="6G MEC testbed: emulated networks, split inference, live moves. Rootless and in virtual time.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
app.command("run")(run.run)
app.command("compare")(run.compare)
app.command("repeat")(repeat.repeat)
app.command("validate")(run.validate)
app.command("calibrate")(calibrate.calibrate)
app.command("why")(why.why)
app.command("profile")(profile.profile)
app.command("doctor")(doctor.doctor)
app.add_typer(trace.app, name="trace")
app.add_typer(topology.app, name="topology")
app.add_typer(kernel.app, name="kernel")


def main() -> None:
    try:
        app(prog_name="testbed")
    except BrokenPipeError:  # `testbed ... | head`
        sys.stderr.close()
        sys.exit(1)
