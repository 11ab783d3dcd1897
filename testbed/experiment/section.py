"""What all sections of an experiment are made of: strictness, and the values that several of them use. Pure."""

from typing import Annotated

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, StringConstraints

from testbed import quantity

NAME_RULE = "a name is a small letter and at most 7 more small letters or digits, such as 'ue1'"
FAR_M = 1e7


def _no_control(text: str) -> str:
    if not text.isprintable():
        raise ValueError("only printable characters are right")
    return text


Name = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9]{0,7}\z")]
TraceName = Annotated[str, StringConstraints(min_length=1, max_length=4096), AfterValidator(_no_control)]
Duration = Annotated[int, BeforeValidator(quantity.duration_us)]
LongerThanZero = Annotated[int, BeforeValidator(quantity.positive_duration_us)]
Metres = Annotated[float, Field(ge=-FAR_M, le=FAR_M)]
Point = tuple[Metres, Metres]


class Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, hide_input_in_errors=True)
