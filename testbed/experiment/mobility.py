"""The section `mobility`: how each phone moves from base station to base station. Pure."""

from typing import Annotated

from pydantic import BeforeValidator, Field

from testbed import quantity
from testbed.experiment.section import Duration, LongerThanZero, Metres, Section, TraceName

Level = Annotated[int, BeforeValidator(quantity.level_mdb)]


class Attach(Section):
    at_us: LongerThanZero = Field(alias="at")
    to: str


class Waypoint(Section):
    at_us: Duration = Field(alias="at")
    x_m: Metres = Field(alias="x")
    y_m: Metres = Field(alias="y")


class RadioModel(Section):
    """`testbed.mobility.radio` says what they mean. 3.5: cities without a line of sight; 160 ms and 3 dB are usual."""

    exponent: float = Field(3.5, ge=1.0, le=8.0)
    hysteresis_mdb: Level = Field(3000, alias="hysteresis")
    time_to_trigger_us: Duration = Field(160_000, alias="time_to_trigger")
    shadowing_mdb: Level = Field(0, alias="shadowing")
    correlation_m: float = Field(50.0, ge=1.0, le=10_000.0, alias="correlation")


class Mobility(Section):
    """Of one phone. Exactly one of attach, trace and path says where it goes."""

    interruption_us: LongerThanZero = Field(50_000, alias="interruption")
    attach: tuple[Attach, ...] | None = Field(None, min_length=1, max_length=10_000)
    trace: TraceName | None = None
    cells: dict[str, str] | None = Field(None, max_length=10_000)
    path: tuple[Waypoint, ...] | None = Field(None, min_length=2, max_length=10_000)
    radio: RadioModel | None = None

    @property
    def radio_model(self) -> RadioModel:
        """As written, or the usual one."""
        return self.radio or RadioModel.model_validate({})
