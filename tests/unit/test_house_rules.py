"""The house rules that a machine can check: sizes and names."""

import ast
import functools
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
FUNCTION_LINES = 60
FILE_LINES = 400
BANNED = {"utils", "util", "helpers", "helper", "common", "misc", "manager", "base", "tools"}
PICKLES = {"pickle", "_pickle", "cPickle", "dill", "cloudpickle", "joblib", "marshal", "shelve", "multiprocessing"}
UNSAFE = {"eval", "exec", "builtins.eval", "builtins.exec", "torch.load", "torch.save", "torch.export.load"}
UNSAFE |= {"torch.distributed.rpc", "yaml.load", "yaml.unsafe_load", "yaml.full_load"}
UNSAFE_KEYWORDS = {"allow_pickle": "allow_pickle=True", "weights_only": "weights_only=False"}
BROAD = {"Exception", "BaseException"}
# Where a process begins, everything that goes wrong must be told: nobody else is left to do it. And whatever a
# stranger's policy does, its service goes on.
ENTRY_POINTS = {
    "controller/guard.py",
    "controller/plugins.py",
    "controller/sdn/__main__.py",
    "nodes/zygote.py",
    "testbed/emulation/director.py",
    "testbed/kernel/init.py",
    "testbed/kernel/hostinit.py",
}


@functools.cache
def nodes_of(source: str) -> tuple[ast.AST, ...]:
    """All that is written in it, for all rules."""
    return tuple(ast.walk(ast.parse(source)))


@functools.cache
def sources() -> list[Path]:
    folders = ("controller", "nodes", "testbed", "setup", "benchmarks", "tests", "examples")
    files = (path for folder in folders for path in (ROOT / folder).rglob("*.py"))
    return sorted(path for path in files if "_pb2" not in path.name)


def broken_rules(source: str) -> Iterator[str]:
    if source.count("\n") > FILE_LINES:
        yield f"{source.count(chr(10))} lines, more than {FILE_LINES}"
    for node in nodes_of(source):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            lines = (node.end_lineno or node.lineno) - node.lineno + 1
            if lines > FUNCTION_LINES:
                yield f"{node.lineno}: {node.name} has {lines} lines, more than {FUNCTION_LINES}"


def broad_catches(source: str) -> Iterator[int]:
    """The lines that catch everything and do not raise it again."""
    for node in nodes_of(source):
        if isinstance(node, ast.ExceptHandler):
            caught = node.type
            broad = caught is None or (isinstance(caught, ast.Name) and caught.id in BROAD)
            if broad and not any(isinstance(inner, ast.Raise) for inner in ast.walk(node)):
                yield node.lineno


@pytest.mark.parametrize("path", sources(), ids=lambda path: str(path.relative_to(ROOT)))
def test_sizes_and_names(path: Path) -> None:
    assert path.stem not in BANNED, "name a file by its idea"
    assert list(broken_rules(path.read_text())) == []


def test_only_entry_points_catch_everything() -> None:
    found = {str(path.relative_to(ROOT)) for path in sources() if list(broad_catches(path.read_text()))}
    assert found - ENTRY_POINTS == set()


def code_from_data(source: str) -> Iterator[str]:
    """What would run as code what somebody else has sent: pickles of any kind, eval and exec."""
    for node in nodes_of(source):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names = [node.module or "", *(f"{node.module}.{alias.name}" for alias in node.names)]
        elif isinstance(node, ast.Name | ast.Attribute):
            names = [ast.unparse(node)]
        elif isinstance(node, ast.keyword) and node.arg in UNSAFE_KEYWORDS:
            names = [f"{node.arg}={ast.unparse(node.value)}"]
        else:
            continue
        for name in names:
            if name in UNSAFE or name.split(".")[0] in PICKLES or name in UNSAFE_KEYWORDS.values():
                yield name


@pytest.mark.parametrize("room", ["controller", "nodes", "testbed"])
def test_nothing_that_was_sent_is_run_as_code(room: str) -> None:
    found = {
        str(path): list(code_from_data(path.read_text())) for path in sources() if path.parts[len(ROOT.parts)] == room
    }
    assert len(found) > 10
    assert {path: names for path, names in found.items() if names} == {}


def test_no_shell() -> None:
    for path in sources():
        for node in nodes_of(path.read_text()):
            if isinstance(node, ast.keyword) and node.arg == "shell":
                assert isinstance(node.value, ast.Constant) and node.value.value is False, path


def test_the_rules_see_what_breaks_them() -> None:
    assert list(broken_rules("def f():\n" + "    pass\n" * FUNCTION_LINES))
    assert list(broken_rules("\n" * (FILE_LINES + 1)))
    assert list(broad_catches("try:\n    f()\nexcept Exception:\n    pass\n")) == [3]
    assert list(broad_catches("try:\n    f()\nexcept OSError:\n    pass\n")) == []
    for line in (
        "import pickle",
        "from dill import loads",
        "from multiprocessing import connection",
        "from torch import load",
        "torch.load(path)",
        "torch.save(x, path)",
        "eval(text)",
        "exec(text)",
        "numpy.load(path, allow_pickle=True)",
        "f = builtins.eval",
    ):
        assert list(code_from_data(line)), line
    assert list(code_from_data("model.eval()\nre.compile(text)\nnumpy.load(path)\nfrom torch import nn")) == []
