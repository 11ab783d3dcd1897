"""What the processes forked from the preloaded parent become: the agent of a host, or the coordinator.

Run as `python -m testbed.emulation.roles SOCKET` it is that parent: everything a role needs is imported
before the first fork, because in a guest an import costs seconds and a fork half a second.
"""

import os
import sys
import time
from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from textwrap import shorten
from typing import Any

from controller.coordinator import Coordinator, NoPlacement
from controller.detect import Rule
from controller.guard import limit_us
from controller.ledger import Ledger
from controller.plugins import build
from nodes.agent import HostSpec
from nodes.clock import MonotonicClock, PreparationClock
from nodes.host import Host, Parts
from nodes.models.config import config_of
from nodes.permit import Permit
from nodes.phone.client import Samples, StreamSpec
from nodes.phone.generation import Generate
from nodes.prepare import tensorfile
from nodes.slices import ByModel, Loader, Sized
from nodes.threads import fail_loudly
from nodes.wire.codec import Tensor
from nodes.wire.sealing import Sealing
from nodes.wire.tls import load
from nodes.zygote import serve
from testbed.emulation.agents import DATA_PORT, Agents
from testbed.emulation.heap import keep_freed
from testbed.emulation.linkstate import LinkState
from testbed.emulation.live import LiveFile
from testbed.emulation.phones import Phones
from testbed.emulation.problem import classes_of, problem_of, zones_over
from testbed.emulation.telemetry import Telemetry
from testbed.identities import FOLDER, run_name
from testbed.journal import Journal
from testbed.kernel.cycles import stopwatch
from testbed.network.precedence import give_way
from testbed.plan import ModelPlan, Plan, StreamPlan, from_json

IDS_PER_PHONE = 1_000_000
# Traces and events change at round times. What is looked at then could be seen before or after the change, by chance;
# so the controller looks a little later, and the SDN application, which keeps to the machine's clock, at another time.
TICK_PHASE, ZERO_PHASE = 0.137, 0.313
END_POLL_US = 250_000
AGENTS_TIMEOUT_S, AGENTS_POLL_S = 120, 0.05
PLACEMENT_CHARS = 400  # of hundreds of streams the first ones are shown


class NotDiscovered(Exception):
    """The SDN application has not found every host and link in time."""


def main(config: Mapping[str, Any]) -> None:
    """The life of a forked process. `config`: role, run (folder), sockets (folder) and what the role needs."""
    run_folder = Path(config["run"])
    plan = _plan(run_folder)
    if config["role"] == "host":
        run_host(plan, config["name"], run_folder, Path(config["sockets"]))
    else:
        give_way(plan.clock)
        run_coordinator(plan, run_folder, Path(config["sockets"]))


def run_host(plan: Plan, name: str, run_folder: Path, sockets: Path) -> None:
    """The agent of one host, and the phone's client where it is one, until it is told to stop."""
    number, host = next((i, host) for i, host in enumerate(plan.hosts) if host.name == name)
    spec = HostSpec(
        name,
        f"{host.ip}:{DATA_PORT}",
        host.flops_per_s,
        host.memory_bytes,
        memory_bytes_per_s=host.memory_bytes_per_s,
        discipline=host.discipline,
        modelled=plan.compute == "model",
    )
    streams = tuple(_spec(plan, stream) for stream in plan.streams if stream.phone == name)
    needed = {stream.model for stream in streams}
    loader, costs = _loader(plan)
    parts = Parts(
        sockets=sockets,
        loader=loader,
        costs=costs,
        streams=streams,
        samples={model.name: _samples(model, numerics=plan.numerics) for model in plan.models if model.name in needed},
        id_start=number * IDS_PER_PHONE,
        batch={model.name: model.batch for model in plan.models},
        wire=plan.wire,
        sealing=_sealing(plan, name, run_folder),
        permit=Permit(host.zone, classes_of(plan), zones_over(plan)),
    )
    clock = MonotonicClock()
    with Journal(run_folder, f"host-{name}") as journal:
        fail_loudly(journal.record, clock)
        with Host(spec, parts, journal.record, clock) as running:
            running.wait()


def run_coordinator(plan: Plan, run_folder: Path, sockets: Path) -> None:
    """Waits for the network, places everything, says when the experiment begins, decides until its end."""
    keep_freed()
    live, clock = LiveFile(run_folder), PreparationClock()
    journal = Journal(run_folder, "coordinator")
    fail_loudly(journal.record, clock)
    agents = Agents(plan, sockets)
    phones = Phones(plan, agents)
    links = LinkState(plan, sockets, sockets / "sdn.sock")
    telemetry = Telemetry(plan, agents, phones, links, journal.record)
    _await_discovery(links)
    if plan.clock == "real":
        _await_agents(plan, sockets)
    problem, policy = build(plan.policy, problem_of(plan), plan.policy_options)
    coordinator = Coordinator(
        problem,
        policy,
        telemetry,
        agents,
        phones,
        clock,
        Ledger(run_folder / "ledger.jsonl"),
        journal.record,
        stopwatch(run_folder),
        plan.telemetry_period_us,
        on_live=lambda said: live.say(_live(plan, clock, phones, telemetry, said)),
        rule=Rule(**plan.detection),
        limit_us=limit_us(policy, plan.policy_options),
        phase_us=int(plan.telemetry_period_us * TICK_PHASE),
        drain_limit_us=plan.telemetry_period_us // 2,  # what fails meanwhile is to be seen in the next period
    )
    live.phase("first placement")
    try:
        coordinator.begin(0)
    except NoPlacement as error:
        journal.record("fault", 0, what="placement", why=str(error))
        raise
    _begin(plan, agents, clock, sockets)
    live.phase("running")
    coordinator.run(plan.duration_us)
    _finish(plan, agents, phones, telemetry, clock)
    _say_done(run_folder, clock, phones)


def _await_discovery(links: LinkState) -> None:
    if not links.wait_discovered():
        raise NotDiscovered("the SDN application did not find every host and switch link in time: see sdn.log")


def _await_agents(plan: Plan, sockets: Path) -> None:
    """In virtual time they are there before the network is discovered. One that ends instead ends the run."""
    for _ in range(int(AGENTS_TIMEOUT_S / AGENTS_POLL_S)):
        if all((sockets / f"{host.name}.sock").exists() for host in plan.hosts):
            return
        time.sleep(AGENTS_POLL_S)


def _begin(plan: Plan, agents: Agents, clock: MonotonicClock, sockets: Path) -> None:
    """Everyone gets the same time zero, a moment ahead; it lies off the times at which the SDN application measures."""
    period_us = plan.telemetry_period_us
    soon_us = time.monotonic_ns() // 1000 + 500_000
    t0_us = (soon_us // period_us + 1) * period_us + int(period_us * ZERO_PHASE)
    agents.start(t0_us)
    (sockets / "zero").write_text(str(t0_us))
    clock.t0_us = t0_us
    (sockets / "zero.pipe").write_text(f"{t0_us}\n")


def _finish(plan: Plan, agents: Agents, phones: Phones, telemetry: Telemetry, clock: MonotonicClock) -> None:
    """Every request gets its deadline's time to end; then phones and agents write what they hold and stop."""
    longest = (s.generate.deadline_us if s.generate else s.deadline_us for s in plan.streams)
    limit_us = clock.now_us() + max(longest, default=0)
    telemetry.snapshot(clock.now_us())
    while not phones.finished and clock.now_us() < limit_us:
        clock.sleep_until(clock.now_us() + END_POLL_US)
        telemetry.snapshot(clock.now_us())
    agents.stop()


def _say_done(run_folder: Path, clock: MonotonicClock, phones: Phones) -> None:
    text = f'{{"virtual_us": {clock.now_us()}, "sent": {sum(phones.sent.values())}}}\n'
    draft = run_folder / ".done.json"
    draft.write_text(text)
    draft.replace(run_folder / "coordinator.json")


def _live(
    plan: Plan, clock: MonotonicClock, phones: Phones, telemetry: Telemetry, said: Mapping[str, Any]
) -> dict[str, Any]:
    return {
        "phase": "running",
        "virtual_us": clock.now_us(),
        "total_us": plan.duration_us,
        "sent": sum(phones.sent.values()),
        "ok": telemetry.ok,
        "p95_us": telemetry.recent.overall_us(),
        "placement": shorten(str(said.get("placement", "")), PLACEMENT_CHARS, placeholder=" ..."),
        "last_event": str(said.get("last_event", said.get("decision", ""))),
    }


def _loader(plan: Plan) -> tuple[Loader, Mapping[str, Any]]:
    """torch is touched only where numbers are."""
    from nodes.costing.costs import costs

    by_model = {model.name: costs(model.family, model.batch) for model in plan.models}
    if not plan.numerics:
        return Sized(by_model), by_model
    return ByModel(_loaders(plan.models, warm=plan.clock == "real")), by_model


def _loaders(models: Sequence[ModelPlan], *, warm: bool) -> Mapping[str, Loader]:
    """By model; what no model needs is not imported."""
    torch_runs = [model for model in models if model.runtime == "torch"]
    onnx_runs = [model for model in models if model.runtime == "onnxruntime"]
    loaders: dict[str, Loader] = {}
    if torch_runs:
        from nodes.runtime.numerics import ModelFile, Numeric

        files = {m.name: ModelFile(m.family, Path(m.weights_file), m.optimise) for m in torch_runs}
        loaders |= dict.fromkeys(files, Numeric(files, warm=warm))
    if onnx_runs:
        from nodes.runtime.onnx import Onnx, OnnxFiles

        graphs = {m.name: OnnxFiles(m.family, Path(m.weights_file), Path(m.graphs_folder)) for m in onnx_runs}
        loaders |= dict.fromkeys(graphs, Onnx(graphs, warm=warm))
    return loaders


def _sealing(plan: Plan, name: str, run_folder: Path) -> Sealing:
    """Raises IdentityError for a certificate that no other host would take."""
    if plan.encrypt == "none":
        return Sealing()
    return Sealing(plan.encrypt, load(run_folder / FOLDER, run_name(plan), name), classes_of(plan))


def _spec(plan: Plan, stream: StreamPlan) -> StreamSpec:
    if stream.generate is None:
        return StreamSpec(stream.name, stream.model, stream.arrivals_us, stream.deadline_us)
    wish, config = stream.generate, config_of(next(m.family for m in plan.models if m.name == stream.model))
    starts = 0 if config.input_dtype == "int64" else getattr(config, "tokens", 0)
    enters = getattr(config, "enters", 0)
    generate = Generate(wish.tokens, wish.deadline_us, wish.end, enters, starts, plan.kv)
    return StreamSpec(stream.name, stream.model, stream.arrivals_us, stream.deadline_us, generate)


def _samples(model: ModelPlan, *, numerics: bool) -> Samples:
    """The inputs that a phone sends in turn, and the unsplit model's answers to them, none if nothing is computed."""
    held, right = tensorfile.read(Path(model.answers_file)), range(model.inputs if numerics else 0)

    def tensor(name: str) -> Tensor:
        array = held[name]
        return Tensor(array.dtype.name, tuple(array.shape), array.data.cast("B"))

    return Samples(
        inputs=[tensor(f"input.{i}") for i in range(model.inputs)],
        answers={i: tensor(f"answer.{i}") for i in right},
        tokens={i: held[f"tokens.{i}"].tolist() for i in right if f"tokens.{i}" in held},
        keeps=model.result_cache,
    )


@lru_cache
def _plan(run_folder: Path) -> Plan:
    """Read before any fork: it is as long as the network is large, and every host needs it."""
    return from_json((run_folder / "plan.json").read_text())


def modules() -> list[str]:
    """What else is imported before any fork: torch only where numbers are."""
    plan = _plan(Path(os.environ["TESTBED_RUN"]))
    runtimes = {model.runtime for model in plan.models} if plan.numerics else set()
    needs = {
        "torch": ["nodes.runtime.numerics"],
        "onnxruntime": ["nodes.runtime.onnx", "onnxruntime"],
    }  # in this order: see nodes.runtime.onnx
    return [module for runtime in sorted(runtimes) for module in needs[runtime]]


if __name__ == "__main__":
    serve(Path(sys.argv[1]), main, modules())
