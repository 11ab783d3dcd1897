"""`testbed run`, `compare`, `validate`: experiments."""

import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from testbed.cli.answer import WRONG_INPUT, AsJson, answering, say_json, stop
from testbed.cli.options import (
    ClockOption,
    ExperimentFile,
    Kernel,
    KernelOption,
    Memory,
    Out,
    Policy,
    Prove,
    Seed,
    Sets,
    TimeLimit,
    TraceDirs,
    read_limits,
    run_options,
)


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
    prove: Prove = True,
    as_json: AsJson = False,
) -> None:
    """Run an experiment and print its result."""
    from testbed.experiment import ExperimentError
    from testbed.progress import shown
    from testbed.run import RunFailed
    from testbed.run import run as run_experiment

    with answering(as_json, wrong=(ExperimentError,), failed=(RunFailed,)):
        options = run_options(
            clock=clock,
            kernel=kernel,
            seed=seed,
            policy=policy,
            sets=sets,
            trace_dirs=trace_dir,
            out=out,
            limits=read_limits(memory, time_limit, as_json),
            prove=prove,
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
    prove: Prove = True,
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
        options = run_options(
            clock=clock,
            kernel=kernel,
            seed=seed,
            sets=sets,
            trace_dirs=trace_dir,
            out=out,
            limits=read_limits(memory, time_limit, as_json),
            prove=prove,
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


def _print_table(summaries: dict[str, dict[str, Any]]) -> None:
    from rich.console import Console

    from testbed.report import table

    Console().print(table(summaries))
