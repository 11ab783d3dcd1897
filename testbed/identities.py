"""The certificates of a run (nodes/wire/certificates.py): who gets which, and in which calendar they are valid.

A guest in virtual time has a calendar of its own, which begins at the same day in every run, and keys that follow from
the seed; else the calendar is the machine's and the keys come by chance.
"""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

from nodes.wire.tls import Holder, Role
from testbed.kernel.guest import START_NS
from testbed.plan import HostPlan, Plan

FOLDER = "certificates"
MARGIN = timedelta(hours=1)  # of a run's set-up and its end


def save_certificates(plan: Plan, folder: Path) -> None:
    """One for each host of the plan, in `folder`/certificates; nothing when nothing is encrypted."""
    if plan.encrypt == "none":
        return
    # the guest reads this module too, and cryptography is slow to import there
    from nodes.wire.certificates import Authority, issue

    virtual = plan.clock == "virtual"
    begin = datetime.fromtimestamp(START_NS / 1e9, UTC) if virtual else datetime.now(UTC)
    end = begin + timedelta(microseconds=plan.duration_us) + MARGIN
    run = run_name(plan)
    authority = Authority(run, begin, end, run.encode() if virtual else None)
    issue(folder / FOLDER, authority, holders(plan))


def run_name(plan: Plan) -> str:
    return f"{plan.name}-{plan.seed}"


def holders(plan: Plan) -> Iterator[Holder]:
    for host in plan.hosts:
        yield Holder(host.name, host.ip, _roles(plan, host))


def _roles(plan: Plan, host: HostPlan) -> tuple[Role, ...]:
    """A phone delivers; where weights, or what sessions keep, may travel to it, it fetches them as agents do."""
    if host.kind != "phone":
        return ("agent",)
    fetches = plan.weights == "transfer" or any(stream.generate for stream in plan.streams)
    return ("phone", "agent") if fetches else ("phone",)
