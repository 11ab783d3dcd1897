"""A city by the number: phones, base stations and servers to the text of an experiment. Pure: chance is an argument.

The same city and the same chance give the same text, byte for byte.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

from testbed.quantity import positive_duration_us
from testbed.topology.backhaul import Shape, hops, nodes

Kind = Literal["phone", "edge_server", "mec_server", "cloud"]
RADIO_DELAY_US = (6_000, 12_000)
RADIO_UP_KBPS, RADIO_DOWN_KBPS = (20_000, 50_000), (80_000, 200_000)
TRACE_SCALE_PERCENT = (70, 130)
FIBRE_DELAY_US = (300, 1_500)
EDGE_DELAY_US = 100
CLOUD_DELAY_US = (10_000, 14_000)
WINDOW = "5s"


class Chance(Protocol):
    """What is needed of `random.Random`."""

    def randint(self, a: int, b: int) -> int: ...
    def choice(self, seq: Sequence[str]) -> str: ...


@dataclass(frozen=True, slots=True)
class City:
    """How many of each; `rate` and `duration` as an experiment writes them; without traces radio rates are constant."""

    name: str
    phones: int
    base_stations: int
    edge_servers: int
    mec_servers: int
    clouds: int
    shape: Shape
    seed: int
    model: str
    rate: str
    duration: str
    traces: tuple[str, ...] = ()
    numerics: bool = False

    @property
    def hosts(self) -> int:
        return self.phones + self.edge_servers + self.mec_servers + self.clouds


def generate(city: City, command: str, chance: Chance) -> str:
    """The experiment; `command`, which made it, is its first line. Raises QuantityError for a wrong duration."""
    links = list(_links(city, chance))
    lines = [
        f"# {command}",
        f"# {city.hosts} hosts: {city.phones} phones on {city.base_stations} base stations, joined as a {city.shape}.",
        "# Lengths of fibre, radio delays and rates are drawn by the seed from the ranges named below.",
        "",
        f"name: {city.name}",
        f"duration: {city.duration}",
        f"seed: {city.seed}",
        *([] if city.numerics else ["numerics: off  # sizes and times of every request, without its numbers"]),
        "",
        "nodes:",
        *_nodes(city),
        "",
        "links:",
        *links,
        "",
        "models:",
        f"  net: {{family: {city.model}}}",
        "",
        "workload:",
        f"  ask: {{model: net, phones: [{', '.join(_named('ue', city.phones))}], rate: {city.rate}}}",
        "",
        "policy: {name: joint}",
        "",
        "# What a phone sends stays on the operator's premises.",
        "privacy:",
        f"  raw: [{', '.join(_premises(city))}]",
        "",
        f"sla: {{percentile: p95, latency: 250ms, window: {_window(city.duration)}}}",
    ]
    return "\n".join(lines) + "\n"


def _window(duration: str) -> str:
    """No longer than the experiment."""
    return WINDOW if positive_duration_us(duration) >= positive_duration_us(WINDOW) else duration


def _premises(city: City) -> list[str]:
    return ["device"] + ["edge"] * bool(city.edge_servers) + ["mec"] * bool(city.mec_servers)


def _nodes(city: City) -> Iterator[str]:
    hosts: tuple[tuple[str, int, Kind, str], ...] = (
        ("ue", city.phones, "phone", "phone"),
        ("edge", city.edge_servers, "edge_server", "edge_small"),
        ("mec", city.mec_servers, "mec_server", "mec_gpu"),
        ("cloud", city.clouds, "cloud", "cloud_gpu"),
    )
    for stem, count, kind, device in hosts:
        yield from (f"  {name}: {{kind: {kind}, device: {device}}}" for name in _named(stem, count))
    for name in nodes(city.shape, city.base_stations):
        yield f"  {name}: {{kind: {'base_station' if name.startswith('bs') else 'switch'}}}"


def _links(city: City, chance: Chance) -> Iterator[str]:
    yield "  # Radio: 6 to 12 ms one way, " + (
        "traces scaled to 70 to 130 %." if city.traces else "20 to 50 Mbit/s up, 80 to 200 Mbit/s down."
    )
    for number, phone in enumerate(_named("ue", city.phones)):
        yield f"  {phone}: {{from: {phone}, to: bs{number % city.base_stations + 1}, {_radio(city, chance)}}}"
    yield "  # Servers in the cabinet of a base station."
    for number, edge in enumerate(_named("edge", city.edge_servers)):
        station = number * city.base_stations // city.edge_servers + 1
        yield _fixed(edge, f"bs{station}", edge, "10Gbit", EDGE_DELAY_US)
    yield "  # Fibre: 5 us a kilometre and the switching on the way, 0.3 to 1.5 ms."
    for number, (a, b) in enumerate(hops(city.shape, city.base_stations), start=1):
        yield _fixed(f"hop{number}", a, b, "10Gbit", chance.randint(*FIBRE_DELAY_US))
    yield "  # The city's data centre, and the share of a transit link that a tenant of the region's cloud gets."
    for mec in _named("mec", city.mec_servers):
        yield _fixed(mec, "core", mec, "10Gbit", chance.randint(*FIBRE_DELAY_US))
    for cloud in _named("cloud", city.clouds):
        yield _fixed(cloud, "core", cloud, "1Gbit", chance.randint(*CLOUD_DELAY_US))


def _fixed(name: str, a: str, b: str, rate: str, delay_us: int) -> str:
    return f"  {name}: {{from: {a}, to: {b}, both: {{rate: {rate}, delay: {delay_us}us}}}}"


def _radio(city: City, chance: Chance) -> str:
    delay = f"delay: {chance.randint(*RADIO_DELAY_US)}us"
    if city.traces:
        trace, scale = chance.choice(city.traces), chance.randint(*TRACE_SCALE_PERCENT)
        return f"trace: {trace}, trace_scale: {scale}%, both: {{{delay}}}"
    up, down = chance.randint(*RADIO_UP_KBPS), chance.randint(*RADIO_DOWN_KBPS)
    return f"up: {{rate: {up}kbit, {delay}}}, down: {{rate: {down}kbit, {delay}}}"


def _named(stem: str, count: int) -> list[str]:
    return [f"{stem}{number}" for number in range(1, count + 1)]
