"""The options that several commands share, and what a run is told by them."""

import re
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Optional

import typer

from testbed.cli.answer import WRONG_INPUT, stop

if TYPE_CHECKING:
    from testbed.run import RunOptions


class Clock(StrEnum):
    virtual = "virtual"
    real = "real"


class Kernel(StrEnum):
    guest = "guest"
    host = "host"


ExperimentFile = Annotated[Path, typer.Argument(metavar="EXPERIMENT", help="The experiment, a YAML file.")]
Sets = Annotated[
    Optional[list[str]],  # noqa: UP045  typer reads the annotation
    typer.Option("--set", metavar="KEY=VALUE", help="Change one value: path.to.key=value. May be repeated."),
]
TraceDirs = Annotated[
    Optional[list[Path]],  # noqa: UP045
    typer.Option("--trace-dir", metavar="DIR", help="A further folder to look traces up in. May be repeated."),
]
Seed = Annotated[Optional[int], typer.Option(help="Another seed than the experiment's.")]  # noqa: UP045
Out = Annotated[Optional[Path], typer.Option(metavar="DIR", help="The run folder; by default a new one in runs/.")]  # noqa: UP045
ClockOption = Annotated[
    Optional[Clock],  # noqa: UP045
    typer.Option(help="virtual: time passes only while everything sleeps (guest kernel only)."),
]
KernelOption = Annotated[Kernel, typer.Option(help="guest: the testbed's own, rootless. host: the machine's, as root.")]
Memory = Annotated[str, typer.Option(metavar="SIZE", help="What a guest may use at most, like 4G.")]
TimeLimit = Annotated[str, typer.Option(metavar="DURATION", help="A run that takes longer in real time is ended.")]
Prove = Annotated[
    bool, typer.Option("--prove/--no-prove", help="Seek the optimum of the decisions when the run has ended.")
]
Policy = Annotated[Optional[str], typer.Option(metavar="NAME", help="Another policy: its name, or file.py:Class.")]  # noqa: UP045


def run_options(
    *,
    clock: Clock | None,
    kernel: Kernel,
    seed: int | None,
    sets: list[str] | None,
    trace_dirs: list[Path] | None,
    out: Path | None,
    limits: tuple[str, float],
    policy: str | None = None,
    prove: bool = True,
) -> "RunOptions":
    from testbed.run import RunOptions

    return RunOptions(
        clock=None if clock is None else clock.value,
        kernel=kernel.value,
        seed=seed,
        policy=policy,
        sets=tuple(sets or ()),
        trace_dirs=tuple(trace_dirs or ()),
        out=out,
        memory=limits[0],
        wall_limit_s=limits[1],
        prove=prove,
    )


def read_limits(memory: str, time_limit: str, as_json: bool) -> tuple[str, float]:
    """(memory as a kernel reads it, seconds); a value that cannot be read is wrong input."""
    from testbed.quantity import QuantityError, duration_us

    if not re.fullmatch(r"[1-9][0-9]*[MG]", memory):
        raise stop(WRONG_INPUT, f"--memory {memory}: write whole megabytes or gigabytes, like 512M or 4G", as_json)
    try:
        return memory, duration_us(time_limit) / 1e6
    except QuantityError as error:
        raise stop(WRONG_INPUT, f"--time-limit {time_limit}: {error}", as_json) from error
