"""Pydantic's findings in our words: the field, what is wrong, what would be right. Pure."""

import difflib
from collections.abc import Iterator, Sequence
from typing import Any, get_args

from pydantic import BaseModel
from pydantic_core import ErrorDetails

from testbed.experiment.reader import Where
from testbed.experiment.schema import Experiment
from testbed.experiment.section import NAME_RULE


def nearest(word: str, known: Sequence[str]) -> str:
    """ "did you mean 'rate'?", or all there is."""
    close = difflib.get_close_matches(word[:64], known, 1)
    return f"did you mean '{close[0]}'?" if close else f"right are {', '.join(known)}" if known else "there are none"


def findings(errors: Sequence[ErrorDetails]) -> Iterator[tuple[Where, str]]:
    for error in errors:
        where = tuple(part for part in error["loc"] if part != "[key]")
        yield where, _why(error, where)


def _why(error: ErrorDetails, where: Where) -> str:
    kind, context = error["type"], error.get("ctx", {})
    if kind == "extra_forbidden":
        return f"unknown key; {nearest(str(where[-1]), _keys(where[:-1]))}"
    if kind == "missing":
        needed = _required(where[:-1])
        return f"is missing; the section needs {', '.join(needed)}" if needed else "is missing"
    if kind == "value_error":
        return str(context["error"])
    if kind == "literal_error":
        return f"{_given(error)} is not known; {nearest(str(error['input']), _words(context['expected']))}"
    if kind == "string_pattern_mismatch":
        rule = (
            "'urban-mec' is a right one: small letters, digits and hyphens, at most 40"
            if where == ("name",)
            else NAME_RULE
        )
        return f"{_given(error)} is no name; {rule}"
    return f"{_given(error)}: {_SHORT.get(kind, '').format(**context) or error['msg'].lower()}"


_SHORT = {
    "int_type": "a whole number is right",
    "float_type": "a number is right",
    "bool_type": "true or false is right",
    "string_type": "text is right",
    "dict_type": "a mapping is right, 'key: value' lines one level deeper",
    "model_type": "a mapping is right, 'key: value' lines one level deeper",
    "model_attributes_type": "a mapping is right, 'key: value' lines one level deeper",
    "tuple_type": "a list is right, such as [one, two]",
    "too_short": "at least {min_length} is right",
    "too_long": "at most {max_length} are right",
    "string_too_short": "at least {min_length} character is right",
    "string_too_long": "at most {max_length} characters are right",
    "greater_than_equal": "at least {ge} is right",
    "less_than_equal": "at most {le} is right",
    "less_than": "less than {lt} is right",
}


def _given(error: ErrorDetails) -> str:
    value = error["input"]
    if isinstance(value, dict):
        return "a mapping" if value else "an empty mapping"
    if isinstance(value, list | tuple):
        return "a list" if value else "an empty list"
    text = "nothing" if value is None else repr(value)
    return text if len(text) <= 60 else text[:60] + "..."


def _words(expected: str) -> list[str]:
    return [word.strip(" '") for word in expected.replace(" or ", ",").split(",")]


def _section(where: Where) -> type[BaseModel] | None:
    """The schema of the section at a place: a field of a model by its alias, of a mapping or list any value."""
    here: Any = Experiment
    for part in where:
        if isinstance(here, type) and issubclass(here, BaseModel):
            fields = {field.alias or name: field for name, field in here.model_fields.items()}
            if part not in fields:
                return None
            here = fields[str(part)].annotation
        else:
            here = get_args(here)[-1] if get_args(here) else None
            if here is Ellipsis:
                return None
        here = _plain(here)
    return here if isinstance(here, type) and issubclass(here, BaseModel) else None


def _plain(annotation: Any) -> Any:
    """`Way | None` -> `Way`; `tuple[Event, ...]` -> a one-argument form that `_section` can step into."""
    inner = [arg for arg in get_args(annotation) if arg is not type(None) and arg is not Ellipsis]
    if type(None) in get_args(annotation):
        return inner[0]
    if Ellipsis in get_args(annotation):
        return list[inner[0]]  # type: ignore[valid-type]
    return annotation


def _keys(where: Where) -> list[str]:
    section = _section(where)
    return [] if section is None else [field.alias or name for name, field in section.model_fields.items()]


def _required(where: Where) -> list[str]:
    section = _section(where)
    fields = section.model_fields.items() if section else ()
    return [field.alias or name for name, field in fields if field.is_required()]
