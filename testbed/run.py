"""One run from experiment to results: load, compile, run in a sandbox, compute the results.

run = run(Path("topologies/urban-mec.yaml"), RunOptions(policy="joint"), progress)
run.summary["latency_ms"]["p95"]
"""

import json
import os
import platform
import shutil
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Literal

from controller.plugins import in_file, installed, label
from testbed import asked_policy
from testbed.compile import compile_plan
from testbed.emulation.live import LiveReader
from testbed.experiment import Experiment, load_experiment
from testbed.identities import save_certificates
from testbed.journal import Journal
from testbed.kernel import build, cgroup, host
from testbed.kernel.cycles import save_calibration
from testbed.kernel.guest import GuestFailed, GuestOptions, run_guest
from testbed.modelfiles import NotMade, model_files
from testbed.ownmodels import with_own_models
from testbed.plan import Plan, to_json
from testbed.probing import save_frames
from testbed.progress import Live, Progress
from testbed.report import write_results

DIRECTOR = "testbed.emulation.director"
RUNS = Path("runs")
PACKAGES = ("torch", "mininet", "os-ken", "grpcio", "pyroute2", "numpy", "protobuf")


@dataclass(frozen=True, slots=True)
class RunOptions:
    """What the command line may change; None and () leave what the experiment says (a machine's own kernel: real)."""

    clock: Literal["virtual", "real"] | None = None
    kernel: Literal["guest", "host"] = "guest"
    seed: int | None = None
    policy: str | None = None
    sets: tuple[str, ...] = ()
    trace_dirs: tuple[Path, ...] = ()
    out: Path | None = None
    memory: str = "6G"
    wall_limit_s: float = 1800
    prove: bool = True  # seek the optimum of the decisions when the run has ended

    def timed(self, experiment: Experiment) -> "RunOptions":
        """With a clock: as asked, else as the experiment says; a machine's own kernel has but one."""
        return replace(self, clock=self.clock or ("real" if self.kernel == "host" else experiment.clock))


@dataclass(frozen=True, slots=True)
class Run:
    folder: Path
    summary: dict[str, Any]


class RunFailed(Exception):
    """The run did not come to its end; `why` says what and what to do, `folder` holds what there is of it."""

    def __init__(self, why: str, folder: Path | None = None) -> None:
        super().__init__(why)
        self.why = why
        self.folder = folder


def run(path: Path, options: RunOptions, progress: Progress) -> Run:
    """Run an experiment. Raises ExperimentError for a bad experiment, RunFailed for anything that goes wrong later."""
    experiment = load(path, options)
    for note in experiment.notes:
        progress.note(note)
    return _run(experiment, path, options, progress)


def load(path: Path, options: RunOptions) -> Experiment:
    """The experiment as it will be run; ExperimentError says all that is wrong, a policy nobody installed included."""
    experiment = load_experiment(
        path,
        sets=options.sets,
        trace_dirs=options.trace_dirs,
        seed=options.seed,
        policy=asked_policy.absolute(options.policy),
        policies=installed(),
    )
    experiment = with_own_models(path, experiment)
    asked_policy.check(path, experiment)
    return experiment


def _run(experiment: Experiment, path: Path, options: RunOptions, progress: Progress) -> Run:
    options = options.timed(experiment)
    kernel = kernel_of(options)
    check_compute(experiment, options)
    folder = new_folder(experiment.name, experiment.policy.name, experiment.seed, options.out)
    progress.phase("models")
    try:
        files = model_files(experiment)
    except NotMade as failure:
        raise RunFailed(str(failure)) from failure
    plan = compile_plan(experiment, files, options.clock, replans=replans(options))
    if options.kernel == "host":
        plan = replace(plan, datapath=host.datapath())
    for note in shared_processor(plan, options):
        progress.note(note)
    shutil.copyfile(path, folder / "experiment.yaml")
    return carry_out(kernel, plan, folder, options, progress)


def carry_out(kernel: Path | None, plan: Plan, folder: Path, options: RunOptions, progress: Progress) -> Run:
    """A plan from its sandbox to its results, in an empty folder. Raises RunFailed."""
    started = time.monotonic()
    (folder / "plan.json").write_text(to_json(plan))
    if place := in_file(plan.policy):
        shutil.copyfile(place[0], folder / "policy.py")
    save_calibration(folder)
    if plan.probes:
        save_frames(plan, folder)
    save_certificates(plan, folder)
    _record_run(folder, plan, options, kernel)
    progress.phase("guest" if options.kernel == "guest" else "sandbox")
    try:
        emulate(kernel, folder, guest_options(options, plan), progress, DIRECTOR)
    except GuestFailed as failure:
        (folder / "FAILED.txt").write_text(f"{failure}\n")
        write_results(folder)  # what there is of it, as INVALID
        raise RunFailed(
            f"{failure}\nthe run folder {folder} holds the console and what was recorded", folder
        ) from failure
    _record_end(folder, time.monotonic() - started)
    return Run(folder, results(folder, progress, prove=options.prove))


def results(folder: Path, progress: Progress, *, prove: bool) -> dict[str, Any]:
    """The summary; it is written even if a proof is broken off."""
    from testbed.proof.finished import prove_worst  # scipy costs a second: only who has run pays it

    try:
        if prove:
            prove_worst(folder, progress)
    finally:
        progress.phase("results")
        summary = write_results(folder)
    return summary


def compare(path: Path, policies: list[str], options: RunOptions, progress: Progress) -> dict[str, Run]:
    """The same experiment and seed once per policy, one guest per processor side by side; by the label of each."""
    parent = options.out or RUNS / f"compare-{time.strftime('%Y%m%d-%H%M%S')}-{os.getpid()}"
    side_by_side = len(os.sched_getaffinity(0))
    labels = [label(policy) for policy in policies]

    def one(number: int) -> Run:
        mine = replace(options, policy=policies[number], out=parent / labels[number])
        return _run(experiments[number], path, mine, progress.part(labels[number]))

    # a bad experiment or policy is told before anything starts
    experiments = [load(path, replace(options, policy=policy)) for policy in policies]
    for note in experiments[0].notes:
        progress.note(note)
    workers = side_by_side if options.kernel == "guest" else 1
    with ThreadPoolExecutor(workers) as pool:
        return dict(zip(labels, pool.map(one, range(len(policies))), strict=True))


def kernel_of(options: RunOptions) -> Path | None:
    """The guest kernel's file, None on the host kernel; RunFailed when the machine cannot do what is asked."""
    if options.kernel == "host":
        if options.clock == "virtual":
            raise RunFailed("the host's kernel runs in real time only: add --clock real, or leave out --kernel host")
        lacks = host.missing()
        if lacks:
            raise RunFailed(
                f"this machine cannot run on its own kernel; it lacks {'; '.join(lacks)}. "
                "Leave out --kernel host: the guest kernel has all of it and needs no root"
            )
        return None
    kernel = build.installed()
    if kernel is None:
        raise RunFailed("the guest kernel is not built yet: run `make setup` or `testbed kernel build`")
    return kernel


def check_compute(experiment: Experiment, options: RunOptions) -> None:
    """RunFailed when control groups are asked for and cannot be had."""
    if experiment.compute != "cgroup":
        return
    if options.clock == "virtual":
        raise RunFailed(
            "compute: cgroup limits real processors, and in virtual time work takes no time: add --clock real; "
            "compute: model is for virtual time"
        )
    if options.kernel == "host":
        if lacks := cgroup.missing():
            raise RunFailed(f"this machine cannot do compute: cgroup: {lacks}. Leave out --kernel host: a guest can")
        return
    for name, node in experiment.nodes.items():
        if (cpus_ppm := node.cpus_ppm or 0) > cgroup.PPM:
            cpus = f"{cpus_ppm / cgroup.PPM:g} processors"
            raise RunFailed(
                f"{name} is to have {cpus}, and a guest has one: cpus: 100% at most, or --kernel host as root"
            )


def shared_processor(plan: Plan, options: RunOptions) -> Iterator[str]:
    """What is to be known of quotas that come to more than the processor that a guest has."""
    quotas_ppm = sum(host.cpus_ppm for host in plan.hosts)
    if plan.compute == "cgroup" and options.kernel == "guest" and quotas_ppm > cgroup.PPM:
        yield (
            f"the quotas come to {quotas_ppm / cgroup.PPM:g} processors, and a guest has one: "
            "hosts that compute at the same time get less than theirs"
        )


def replans(options: RunOptions) -> bool:
    """Whether a new rate holds for what is queued already."""
    return options.kernel == "guest" and build.replans()


def new_folder(name: str, policy: str, seed: int, out: Path | None) -> Path:
    stamp = time.strftime("%Y%m%d-%H%M%S")
    folder = (out or RUNS / f"{name}-{label(policy)}-{seed}-{stamp}-{os.getpid()}").absolute()
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise RunFailed(f"{folder} is there already and not empty: name a new folder with --out")
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise RunFailed(f"cannot make the run folder: {error}") from error
    return folder


def guest_options(options: RunOptions, plan: Plan) -> GuestOptions:
    return GuestOptions(plan.clock, options.memory, options.wall_limit_s, plan.compute == "cgroup", plan.seed)


def emulate(kernel: Path | None, folder: Path, limits: GuestOptions, progress: Progress, director: str) -> None:
    """Run a director on the plan of the folder to its end. Raises GuestFailed."""
    reader = LiveReader(folder)

    def show() -> None:
        for said in reader.new():
            if "virtual_us" in said:
                progress.live(Live(**said))
            else:
                progress.phase(said["phase"])

    if kernel is None:
        host.run_on_host(folder, director, limits, show)
    else:
        run_guest(kernel, folder, director, limits, show)
    if not (folder / "done.json").exists():
        console = (folder / "console.log").read_text(errors="replace").splitlines()[-15:]
        raise GuestFailed("the run ended before its end", "\n".join(console))


def _record_run(folder: Path, plan: Plan, options: RunOptions, kernel: Path | None) -> None:
    with Journal(folder, "host") as journal:
        journal.record(
            "run",
            0,
            name=plan.name,
            seed=plan.seed,
            policy=label(plan.policy),
            clock=plan.clock,
            kernel=options.kernel,
            numerics=plan.numerics,
            duration_us=plan.duration_us,
            versions=_versions(kernel),
            streams=[{"name": s.name, "model": s.model, "source": s.phone} for s in plan.streams],
            sla=plan.sla,
            events=[{"t_us": c.t_us, "text": c.text} for c in plan.changes if c.text],
            links=[link.name for link in plan.links],
            shapes=list(first_shapes(plan)),
            replans=replans(options),
            optimised={
                model.name: {"level": model.optimise, "off_plain": model.off_plain}
                for model in plan.models
                if model.optimise != "none"
            },
            steps=sum(change.what == "link" for change in plan.changes),
            states=sum(change.what.startswith(("link_", "switch_")) for change in plan.changes),
        )


def first_shapes(plan: Plan) -> Iterator[dict[str, Any]]:
    """What each direction begins with; what is at rest is left out."""
    for link in plan.links:
        for direction, source, target, shape in (("up", link.a, link.b, link.up), ("down", link.b, link.a, link.down)):
            held = {name: value for name, value in asdict(shape).items() if value}
            yield {"link": link.name, "direction": direction, "from": source, "to": target, **held}


def _record_end(folder: Path, wall_s: float) -> None:
    done = json.loads((folder / "done.json").read_text())
    with Journal(folder, "end") as journal:
        journal.record(
            "end", done["virtual_us"], virtual_us=done["virtual_us"], wall_s=round(wall_s, 3), sent=done["sent"]
        )


def _versions(kernel: Path | None) -> dict[str, str]:
    found = {"python": platform.python_version(), "host_kernel": platform.release()}
    if kernel is not None:
        found["guest_kernel"] = kernel.parent.name  # the hash of all that it was made of
    for package in ("mec-testbed", *PACKAGES):
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = "not installed as a package"
    return found
