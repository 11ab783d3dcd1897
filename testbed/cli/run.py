"""`testbed run`, `compare`, `validate`: experiments."""

import re
import sys
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Optional

import typer

from testbed.cli.answer import WRONG_INPUT, AsJson, answering, say_json, stop

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
Policy = Annotated[Optional[str], typer.Option(metavar="NAME", help="Another policy: its name, or file.py:Class.")]  # noqa: UP045


def run(
    experiment: ExperimentFile,
    *,
    clock: ClockOption = None,
    kernel: KernelOption = Kernel.guest,
    seed: Seed = None,
    policy: Policy = None,
    sets: Sets = None,
    trace_dir: TraceDirs = None,
    out: Out = None,
    memory: Memory = "6G",
    time_limit: TimeLimit = "30min",
    as_json: AsJson = False,
) -> None:
    """Run an experiment and print its result."""
    from testbed.experiment import ExperimentError
    from testbed.progress import shown
    from testbed.run import RunFailed
    from testbed.run import run as run_experiment

    with answering(as_json, wrong=(ExperimentError,), failed=(RunFailed,)):
        options = _options(
            clock=clock,
            kernel=kernel,
            seed=seed,
            policy=policy,
            sets=sets,
            trace_dirs=trace_dir,
            out=out,
            limits=_limits(memory, time_limit, as_json),
        )
        with shown(sys.stderr) as progress:
            done = run_experiment(experiment, options, progress)
    if as_json:
        say_json(done.summary | {"folder": str(done.folder)})
        return
    _print_table({done.summary["policy"]: done.summary})
    print(f"report: {done.folder / 'report.md'}")


def compare(
    experiment: ExperimentFile,
    *,
    policies: Annotated[str, typer.Option(metavar="A,B,...", help="The policies, with commas between.")],
    clock: ClockOption = None,
    kernel: KernelOption = Kernel.guest,
    seed: Seed = None,
    sets: Sets = None,
    trace_dir: TraceDirs = None,
    out: Out = None,
    memory: Memory = "6G",
    time_limit: TimeLimit = "30min",
    as_json: AsJson = False,
) -> None:
    """Run the same experiment with the same seed once per policy, side by side, and print one table."""
    from testbed.experiment import ExperimentError

    names = [name.strip() for name in policies.split(",")]
    if "" in names or len({name.rpartition(":")[2] for name in names}) != len(names):
        raise stop(WRONG_INPUT, f"--policies {policies}: names with commas between, each once", as_json)
    from testbed.progress import shown
    from testbed.report import write_comparison
    from testbed.run import RunFailed
    from testbed.run import compare as compare_policies

    with answering(as_json, wrong=(ExperimentError,), failed=(RunFailed,)):
        options = _options(
            clock=clock,
            kernel=kernel,
            seed=seed,
            sets=sets,
            trace_dirs=trace_dir,
            out=out,
            limits=_limits(memory, time_limit, as_json),
        )
        with shown(sys.stderr) as progress:
            runs = compare_policies(experiment, names, options, progress)
    folder = next(iter(runs.values())).folder.parent
    result = write_comparison(folder, {name: done.folder for name, done in runs.items()})
    if as_json:
        say_json(result)
        return
    _print_table(result["policies"])
    print(f"report: {folder / 'report.md'}")


def validate(
    experiments: Annotated[list[Path], typer.Argument(metavar="EXPERIMENT...", help="Experiments, YAML files.")],
    sets: Sets = None,
    trace_dir: TraceDirs = None,
    as_json: AsJson = False,
) -> None:
    """Check experiments and the traces they name without running them."""
    from testbed.experiment import ExperimentError
    from testbed.run import RunOptions, load

    options = RunOptions(sets=tuple(sets or ()), trace_dirs=tuple(trace_dir or ()))
    found: list[dict[str, Any]] = []
    for path in experiments:
        try:
            notes = load(path, options).notes
        except ExperimentError as error:
            found.append({"path": str(path), "valid": False, "faults": [str(fault) for fault in error.faults]})
            print(error, file=sys.stderr)
            continue
        found.append({"path": str(path), "valid": True, "notes": list(notes)})
        if not as_json:
            print(f"{path}: valid", *notes, sep="\n  note: ")
    if as_json:
        say_json({"experiments": found})
    if not all(one["valid"] for one in found):
        raise typer.Exit(WRONG_INPUT)


def _options(
    *,
    clock: Clock | None,
    kernel: Kernel,
    seed: int | None,
    sets: list[str] | None,
    trace_dirs: list[Path] | None,
    out: Path | None,
    limits: tuple[str, float],
    policy: str | None = None,
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
    )


def _limits(memory: str, time_limit: str, as_json: bool) -> tuple[str, float]:
    """(memory as a kernel reads it, seconds); a value that cannot be read is wrong input."""
    from testbed.quantity import QuantityError, duration_us

    if not re.fullmatch(r"[1-9][0-9]*[MG]", memory):
        raise stop(WRONG_INPUT, f"--memory {memory}: write whole megabytes or gigabytes, like 512M or 4G", as_json)
    try:
        return memory, duration_us(time_limit) / 1e6
    except QuantityError as error:
        raise stop(WRONG_INPUT, f"--time-limit {time_limit}: {error}", as_json) from error


def _print_table(summaries: dict[str, dict[str, Any]]) -> None:
    from rich.console import Console

    from testbed.report import table

    Console().print(table(summaries))
