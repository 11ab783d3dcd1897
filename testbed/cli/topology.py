"""`testbed topology generate`: experiments with as many nodes as wanted."""

import shlex
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Annotated

import typer

from testbed.cli.answer import AsJson, answering, say_json
from testbed.cli.trace_files import BadOption, duration_us, write
from testbed.topology.backhaul import Shape

if TYPE_CHECKING:
    from testbed.topology.city import City

app = typer.Typer(help="Topologies by the number.", no_args_is_help=True)


@app.callback()
def topology() -> None:
    """Topologies by the number."""


@app.command("generate")
def generate(
    *,
    phones: Annotated[int, typer.Option(min=1, max=4000, help="Phones.")] = 40,
    base_stations: Annotated[int, typer.Option(min=1, max=500, help="Base stations; phones go round them.")] = 10,
    edge_servers: Annotated[int, typer.Option(min=0, max=500, help="Servers at base stations, spread evenly.")] = 7,
    mec: Annotated[int, typer.Option(min=0, max=100, help="MEC servers at the core.")] = 2,
    clouds: Annotated[int, typer.Option(min=0, max=10, help="Clouds behind the core.")] = 1,
    shape: Annotated[Shape, typer.Option(help="How the base stations are joined.")] = "ring",
    seed: Annotated[int, typer.Option(min=0, help="The same options give the same file.")] = 1,
    model: Annotated[str, typer.Option(help="The family of the phones' model.")] = "vit_b16",
    rate: Annotated[str, typer.Option(help="Requests of each phone.")] = "0.2/s",
    duration: Annotated[str, typer.Option(help="Of the experiment.")] = "30s",
    trace: Annotated[
        list[str] | None, typer.Option(help="A trace of the radio links; may be given often. Without: constant rates.")
    ] = None,
    numerics: Annotated[
        bool, typer.Option(help="Really compute every request: hours and gigabytes in a city.")
    ] = False,
    out: Annotated[Path, typer.Option("--out", "-o", metavar="FILE", help="The experiment to write.")],
    as_json: AsJson = False,
) -> None:
    """Write an experiment with so many phones, base stations and servers; the command stands in its first line."""
    from testbed.experiment.errors import ExperimentError
    from testbed.experiment.load import load_experiment
    from testbed.topology import city as made

    wanted = made.City(
        out.stem, phones, base_stations, edge_servers, mec, clouds, shape, seed, model, rate, duration,
        tuple(trace or ()), numerics,
    )  # fmt: skip
    with answering(as_json, wrong=(BadOption,)), TemporaryDirectory() as folder:
        duration_us("--duration", duration)
        text = made.generate(wanted, command(wanted), Random(seed))
        draft = Path(folder) / out.name
        draft.write_text(text)
        try:
            load_experiment(draft, trace_dirs=[out.parent])
        except ExperimentError as error:
            faults = str(error).replace(str(draft), str(out))
            raise BadOption(f"these options make no right experiment, nothing was written:\n{faults}") from None
        write(out, text)
    if as_json:
        say_json({"experiment": str(out), "hosts": wanted.hosts})


def command(city: "City") -> str:
    """What makes this city again, every option said."""
    words = ["testbed", "topology", "generate", "--phones", city.phones, "--base-stations", city.base_stations]
    words += ["--edge-servers", city.edge_servers, "--mec", city.mec_servers, "--clouds", city.clouds]
    words += ["--shape", city.shape, "--seed", city.seed, "--model", city.model, "--rate", city.rate]
    words += ["--duration", city.duration, *(word for name in city.traces for word in ("--trace", name))]
    words += ["--numerics" if city.numerics else "--no-numerics", "--out", f"{city.name}.yaml"]
    return shlex.join(str(word) for word in words)
