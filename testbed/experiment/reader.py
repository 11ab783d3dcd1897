"""A strict reader of YAML: plain values, and the line of every one of them. Pure: bytes in.

Rules: one document, UTF-8, at most 1 MiB, 16 levels and 50,000 values; no anchors, aliases, tags, merge keys or
duplicate keys; keys are text; plain scalars become null, true/false, whole numbers or decimal numbers, and text
otherwise (so yes, no, 010, 1e9, 12:30 and 2024-01-01 are text); .nan and .inf are errors. It works on the parser's
events, so nothing is built from what is refused.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, NoReturn

import yaml

MAX_BYTES = 2**20
MAX_DEPTH = 16
MAX_VALUES = 50_000
MAX_FAULTS = 200

Where = tuple[str | int, ...]  # ("links", "ue1", "up") or ("events", 0, "at")

_INT = re.compile(r"[-+]?(0|[1-9][0-9]{0,17})", re.ASCII)
_FLOAT = re.compile(r"[-+]?(0|[1-9][0-9]{0,17})\.[0-9]{1,18}", re.ASCII)
_LONG = re.compile(r"[-+]?[0-9][0-9.]{18,}", re.ASCII)
_SPECIAL = re.compile(r"[-+]?\.(nan|inf)", re.ASCII | re.IGNORECASE)
_WORDS: dict[str, Any] = {"true": True, "false": False, "null": None, "~": None, "": None}


@dataclass(slots=True)
class Document:
    """What was read. `faults` are (line, place, why); `value` is complete only without them."""

    value: Any = None
    lines: dict[Where, int] = field(default_factory=dict)
    faults: list[tuple[int, Where, str]] = field(default_factory=list)


class _Refused(Exception):
    """Reading cannot go on."""


def resolve(text: str) -> Any:
    """A plain scalar to its value. Raises ValueError for what is no value here."""
    if text in _WORDS:
        return _WORDS[text]
    if _INT.fullmatch(text):
        return int(text)
    if _FLOAT.fullmatch(text):
        return float(text)
    if _SPECIAL.fullmatch(text):
        raise ValueError(f"{text} is no value here; a finite number is right")
    if _LONG.fullmatch(text):
        raise ValueError(f"{text[:20]}... has too many digits; at most 18 are right")
    return text


def read(data: bytes) -> Document:
    """Never raises for what the file holds: faults are in the document."""
    document = Document()
    if len(data) > MAX_BYTES:
        document.faults.append((0, (), f"{len(data)} bytes; an experiment has at most {MAX_BYTES} (1 MiB)"))
        return document
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as fault:
        line = data[: fault.start].count(b"\n") + 1
        document.faults.append((line, (), "not UTF-8 text; save the file as UTF-8"))
        return document
    try:
        _Builder(document, text).build()
    except _Refused:
        pass
    except yaml.MarkedYAMLError as fault:
        mark = fault.problem_mark or fault.context_mark
        why = " ".join(part for part in (fault.context, fault.problem) if part)
        document.faults.append((mark.line + 1 if mark else 0, (), f"not YAML: {why}"))
    except yaml.reader.ReaderError as fault:
        line = _line_of(text, fault)
        document.faults.append((line, (), "not YAML: a control character; use plain text"))
    return document


def _line_of(text: str, fault: yaml.reader.ReaderError) -> int:
    """The C reader counts bytes, the other characters; the character itself is what both name."""
    bad = fault.character if isinstance(fault.character, str) else chr(fault.character)
    place = text.find(bad) if bad else -1
    return text[: max(place, 0)].count("\n") + 1


class _Builder:
    """Walks the events once, with the nesting bounded by MAX_DEPTH."""

    def __init__(self, document: Document, text: str) -> None:
        self.document = document
        self.values = 0
        loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
        self.events: Iterator[Any] = iter(yaml.parse(text, Loader=loader))

    def build(self) -> None:
        next(self.events)  # the start of the stream
        event = next(self.events)
        if isinstance(event, yaml.StreamEndEvent):
            self.stop(1, (), "the file is empty; an experiment is a mapping that begins with 'name: ...'")
        self.document.value = self.node(next(self.events), (), 0)
        next(self.events)
        after = next(self.events)
        if not isinstance(after, yaml.StreamEndEvent):
            self.stop(_line(after), (), "a second document begins here; one experiment a file")
        if not self.document.faults and not isinstance(self.document.value, dict):
            self.stop(1, (), "an experiment is a mapping that begins with 'name: ...'")

    def fault(self, line: int, where: Where, why: str) -> None:
        self.document.faults.append((line, where, why))
        if len(self.document.faults) >= MAX_FAULTS:
            raise _Refused

    def stop(self, line: int, where: Where, why: str) -> NoReturn:
        self.document.faults.append((line, where, why))
        raise _Refused

    def node(self, event: Any, where: Where, depth: int) -> Any:
        line = _line(event)
        self.document.lines.setdefault(where, line)
        if depth > MAX_DEPTH:
            self.stop(line, where[:4], f"more than {MAX_DEPTH} levels; an experiment is flatter")
        self.values += 1
        if self.values > MAX_VALUES:
            self.stop(line, where[:4], f"more than {MAX_VALUES} values; an experiment is smaller")
        if isinstance(event, yaml.AliasEvent):
            self.fault(line, where, f"alias *{event.anchor} is not allowed; write the value out")
            return None
        if event.anchor is not None:
            self.fault(line, where, f"anchor &{event.anchor} is not allowed; write each value out")
        if event.tag is not None:
            self.fault(line, where, f"tag {event.tag[:60]} is not allowed; write the plain value")
        if isinstance(event, yaml.ScalarEvent):
            return self.scalar(event, where)
        if isinstance(event, yaml.SequenceStartEvent):
            return self.sequence(where, depth)
        return self.mapping(where, depth)

    def scalar(self, event: Any, where: Where) -> Any:
        if event.style:  # quoted, or a block: text as it stands; plain is None or "", by loader
            return str(event.value)
        try:
            return resolve(event.value)
        except ValueError as fault:
            self.fault(_line(event), where, str(fault))
            return None

    def sequence(self, where: Where, depth: int) -> list[Any]:
        items: list[Any] = []
        while not isinstance(event := next(self.events), yaml.SequenceEndEvent):
            items.append(self.node(event, (*where, len(items)), depth + 1))
        return items

    def mapping(self, where: Where, depth: int) -> dict[str, Any]:
        items: dict[str, Any] = {}
        while not isinstance(event := next(self.events), yaml.MappingEndEvent):
            key = self.key(event, where)
            line = _line(event)
            here = (*where, key)
            first = self.document.lines.get(here)
            if key in items:
                self.fault(line, here, f"'{key}' is there twice, first in line {first}; keep one")
            else:
                self.document.lines[here] = line
            value = self.node(next(self.events), here, depth + 1)
            items.setdefault(key, value)
        return items

    def key(self, event: Any, where: Where) -> str:
        line = _line(event)
        if not isinstance(event, yaml.ScalarEvent):
            self.stop(line, where, "a key must be plain text, such as 'rate'")
        if event.anchor is not None or event.tag is not None:
            self.stop(line, where, "a key must not have an anchor or a tag")
        return str(event.value)


def _line(event: Any) -> int:
    return int(event.start_mark.line) + 1
