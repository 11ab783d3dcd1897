"""What travels encrypted: everything, nothing, or what a privacy class says nobody else may read.

    doors = Sealing("sensitive", identity, classes)
    doors.seals(header)        True: this frame goes to the sealed door of the next host

Rules: the sealed door of a host is one port above the plain one; under `all` there is no plain door, under `none` no
sealed one; under `sensitive` tensors of class raw and feature are sealed, as are the keys and values of sessions,
while public answers, errors (which hold no tensor) and weights are not. What should have come sealed and did not is
refused by the receiver too, so that no sender can be careless alone.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from nodes.proto.data_pb2 import Header, WeightsRequest
from nodes.wire.tls import Identity, IdentityError

Mode = Literal["none", "sensitive", "all"]
SENSITIVE = frozenset(("raw", "feature"))


@dataclass(frozen=True, slots=True)
class Sealing:
    """`classes`: by model, the privacy class of what enters each block, and last of the answer."""

    mode: Mode = "none"
    identity: Identity | None = None
    classes: Mapping[str, Sequence[str]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.mode != "none" and self.identity is None:
            raise IdentityError(f"encrypt: {self.mode} needs a certificate")

    @property
    def doors(self) -> tuple[bool, ...]:
        """Sealed or not, of each door that a host has."""
        return {"none": (False,), "sensitive": (False, True), "all": (True,)}[self.mode]

    def seals(self, header: Header) -> bool:
        """A model that nobody knows is kept secret."""
        if self.mode != "sensitive":
            return self.mode == "all"
        if header.error_code or not header.model:
            return False
        classes = self.classes.get(header.model, ())
        entered = header.route[header.step].first if header.step < len(header.route) else len(classes) - 1
        return not 0 <= entered < len(classes) or classes[entered] in SENSITIVE

    def seals_weights(self, request: WeightsRequest) -> bool:
        kept = bool(request.session) or request.catalogue  # keys and values are features
        return self.mode == "all" or (self.mode == "sensitive" and kept)

    def who(self, *, sealed: bool) -> Identity | None:
        """As whom to go to a door."""
        return self.identity if sealed else None


def door(address: str, *, sealed: bool) -> str:
    """ "10.0.0.4:5000" is where the sealed door "10.0.0.4:5001" is."""
    if not sealed:
        return address
    host, _, port = address.rpartition(":")
    return f"{host}:{int(port) + 1}"
