"""The links of an experiment measured, without its requests: every one alone, then all together."""

import json
from dataclasses import replace
from pathlib import Path

from testbed.calibration import PHASES, calibrated
from testbed.compile import ModelFiles, compile_plan
from testbed.fidelity.limits import limits_of
from testbed.journal import read
from testbed.kernel import host
from testbed.kernel.cycles import save_calibration
from testbed.kernel.guest import GuestFailed
from testbed.plan import to_json
from testbed.probing import save_frames
from testbed.progress import Progress
from testbed.run import (
    Run,
    RunFailed,
    RunOptions,
    emulate,
    first_shapes,
    guest_options,
    kernel_of,
    load,
    new_folder,
    replans,
)

CALIBRATION = "testbed.emulation.calibrate"


def calibrate(path: Path, options: RunOptions, progress: Progress, director: str = CALIBRATION) -> Run:
    """`calibration.json` in a run folder; raises as `testbed.run.run` does."""
    experiment = load(path, options)
    options = options.timed(experiment)
    kernel = kernel_of(options)
    folder = new_folder(experiment.name, experiment.policy.name, experiment.seed, options.out)
    unused = {name: ModelFiles("", "", model.inputs) for name, model in experiment.models.items()}
    plan = compile_plan(experiment, unused, options.clock, replans=replans(options))
    if options.kernel == "host":
        plan = replace(plan, datapath=host.datapath())
    (folder / "plan.json").write_text(to_json(plan))
    save_calibration(folder)
    save_frames(plan, folder)
    progress.phase("guest" if options.kernel == "guest" else "sandbox")
    try:
        limits = replace(guest_options(options, plan), control_groups=False)  # nothing is computed
        emulate(kernel, folder, limits, progress, director)
    except GuestFailed as failure:
        raise RunFailed(f"{failure}\nthe run folder {folder} holds the console", folder) from failure
    phases = {name: list(read(folder / "parts" / f"{name}.jsonl")) for name in PHASES}
    found = calibrated(
        {"kind": "run", "t_us": 0, "shapes": list(first_shapes(plan)), "replans": replans(options)},
        phases,
        limits_of(plan.clock),
    )
    result = {"name": plan.name, "clock": plan.clock, "kernel": options.kernel, **found}
    (folder / "calibration.json").write_text(json.dumps(result, indent=1))
    return Run(folder, result)
