"""What the agents of a run cost in memory: forks of one preloaded parent that share its pages and the mapped weights.

    python -m benchmarks.agents [--agents 20] [--families vit_tiny] [--runtimes torch]

Each is a whole host, its servers listening, with a whole model loaded that has answered once. PSS is counted: a page
that n processes share counts an nth in each, so the sum is what all of them need; the parent is one of them.
"""

import argparse
import json
import multiprocessing
import socket
import sys
import tempfile
import time
from collections.abc import Mapping
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import psutil
from rich.console import Console
from rich.table import Table

from benchmarks.table import RESULTS, WIDTH
from nodes.zygote import Spawner, serve

Runtime = Literal["torch", "onnxruntime"]
MODULES: Mapping[str, list[str]] = {
    "torch": ["nodes.runtime.numerics"],
    "onnxruntime": ["nodes.runtime.onnx", "onnxruntime"],
}
READY_S = 120.0


@dataclass(frozen=True, slots=True)
class Memory:
    """Bytes, of `agents` processes and their parent."""

    agents: int
    pss_sum: int
    rss_sum: int  # counts what is shared once for each
    parent_pss: int
    own_mean: int  # USS: what one agent has for itself


def measure(agents: int, family: str, runtime: Runtime, folder: Path) -> Memory:
    """Forks so many, waits until each has answered, reads their memory, ends them. `folder` holds what is made."""
    config = _prepared(family, runtime, folder)
    door = folder / "zygote.sock"
    parent = multiprocessing.get_context("spawn").Process(
        target=_serve, args=(door, [*MODULES[runtime], "nodes.host", "grpc"])
    )
    parent.start()
    try:
        _await(door)
        time.sleep(0.1)  # between bind and listen
        spawner = Spawner(door)
        names = [f"agent{i}" for i in range(agents)]
        pids = [
            spawner.spawn(name, netns=None, log=folder / f"{name}.log", config={**config, "name": name})
            for name in names
        ]
        for name in names:
            _await(folder / f"{name}.ready", folder / f"{name}.log")
        found = [psutil.Process(pid).memory_full_info() for pid in (parent.pid, *pids)]
        spawner.close()
    finally:
        parent.terminate()
        parent.join()
    return Memory(
        agents,
        sum(info.pss for info in found),
        sum(info.rss for info in found),
        found[0].pss,
        sum(info.uss for info in found[1:]) // agents,
    )


def _prepared(family: str, runtime: Runtime, folder: Path) -> dict[str, str]:
    """In a process of its own, so that this one stays without torch."""
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        return pool.submit(_prepare, family, runtime, folder).result()


def _prepare(family: str, runtime: Runtime, folder: Path) -> dict[str, str]:
    from nodes.prepare import answers, onnxanswers

    if runtime == "torch":
        weights_file, answers_file = answers.prepare(family, 1, 0, folder)
        graphs = Path()
    else:
        weights_file, answers_file, graphs = onnxanswers.prepare(family, 1, 0, folder)
    paths = {"weights": weights_file, "answers": answers_file, "graphs": graphs, "folder": folder}
    return {"family": family, "runtime": runtime, **{name: str(path) for name, path in paths.items()}}


def _serve(door: Path, modules: list[str]) -> None:
    serve(door, _agent, modules)


def _agent(config: Mapping[str, Any]) -> None:
    """The life of one: loads the whole model, answers once as its host, and waits for its end."""
    from nodes.agent import HostSpec
    from nodes.costing.costs import costs
    from nodes.host import Host, Parts
    from nodes.prepare import tensorfile
    from nodes.slices import Loader
    from nodes.wire.codec import Tensor

    family, folder = config["family"], Path(config["folder"])
    loader: Loader
    if config["runtime"] == "torch":
        from nodes.runtime.numerics import ModelFile, Numeric

        loader = Numeric({family: ModelFile(family, Path(config["weights"]))})
    else:
        from nodes.runtime.onnx import Onnx, OnnxFiles

        loader = Onnx({family: OnnxFiles(family, Path(config["weights"]), Path(config["graphs"]))})
    held = tensorfile.read(Path(config["answers"]))
    x, right = held["input.0"], held["answer.0"]
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    parts = Parts(folder, loader, {family: costs(family)})
    with Host(HostSpec(config["name"], f"127.0.0.1:{port}", 10**12, 1 << 33), parts, _unheard) as host:
        run = loader.load(family, 0, len(costs(family)), None).run
        answer = run(Tensor(x.dtype.name, tuple(x.shape), x.data.cast("B")))
        if bytes(answer.data) != right.tobytes():
            sys.exit("the answer is not that of the unsplit model")
        (folder / f"{config['name']}.ready").touch()
        host.wait()


def _unheard(kind: str, t_us: int, **fields: Any) -> None:
    """A journal that nobody reads."""


def _await(path: Path, log: Path | None = None) -> None:
    until = time.monotonic() + READY_S
    while not path.exists():
        if time.monotonic() > until:
            raise TimeoutError(f"{path.name} did not come: {log.read_text()[-400:] if log else ''}")
        time.sleep(0.05)


def bench(agents: int, families: list[str], runtimes: list[Runtime]) -> None:
    table = Table(
        "family", "runtime", "agents", "PSS sum MiB", "RSS sum MiB", "parent MiB", "own, each MiB", width=WIDTH
    )
    rows = []
    for family in families:
        for runtime in runtimes:
            with tempfile.TemporaryDirectory(prefix="agents-") as folder:
                found = measure(agents, family, runtime, Path(folder))
            rows.append({"family": family, "runtime": runtime, **{k: getattr(found, k) for k in Memory.__slots__}})
            sizes = (found.pss_sum, found.rss_sum, found.parent_pss, found.own_mean)
            table.add_row(family, runtime, str(agents), *(f"{size / 2**20:.1f}" for size in sizes))
    Console(width=WIDTH).print(table)
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / "agents.json").write_text(json.dumps({"agents": rows}, indent=1))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="memory of agents")
    parser.add_argument("--agents", type=int, default=20)
    parser.add_argument("--families", nargs="+", default=["vit_tiny", "minilm"])
    parser.add_argument("--runtimes", nargs="+", default=["torch", "onnxruntime"])
    asked = parser.parse_args()
    bench(asked.agents, asked.families, asked.runtimes)
