"""What the command line takes for traces beyond measure: memory and bytes read, counted by the kernel in a child."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

MOST_KB = 300_000
MOST_READ = 64 * 2**20  # programs and libraries included
# The high-water mark of the process itself: that of getrusage is handed down from the parent, which may hold torch.
CHILD = """
import json, sys
from testbed.cli import main
code = 0
try:
    main()
except SystemExit as end:
    code = end.code
facts = dict(line.split(":", 1) for name in ("status", "io") for line in open(f"/proc/self/{name}"))
print(json.dumps([code, int(facts["VmHWM"].split()[0]), int(facts["rchar"])]), file=sys.stderr)
"""


def shown(path: Path) -> tuple[int, int, int, str]:
    """Exit code, peak memory in kB, bytes read, what was said."""
    command = [sys.executable, "-c", CHILD, "trace", "show", str(path)]
    done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=300)
    *said, facts = done.stderr.splitlines()
    code, peak_kb, read = json.loads(facts)
    return code, peak_kb, read, "\n".join(said)


@pytest.mark.parametrize(
    ("name", "head", "row", "line"),
    [
        ("big.up", "", "1234567\n", 2_097_153),
        ("big.csv", "t_ms,up_kbps\n", "1234567,5\n", 1_677_722),
        ("short.up", "", "1\n", 8_388_609),
    ],
)
def test_ten_million_lines_are_refused_where_the_limit_is_passed(name, head, row, line, tmp_path):
    path = tmp_path / name
    with path.open("w") as file:
        file.write(head)
        file.writelines(row * 10**5 for _ in range(100))
    code, peak_kb, read, said = shown(path)
    assert code == 2
    assert f"{path}:{line}: " in said
    assert "16 MiB" in said
    assert peak_kb < MOST_KB
    assert read < MOST_READ


def test_a_file_without_end_is_not_read_to_its_end(tmp_path):
    path = tmp_path / "sparse.csv"
    with path.open("w") as file:
        file.write("t_ms,up_kbps\n0,5\n")
        file.truncate(2**40)
    code, _, read, said = shown(path)
    assert (code, f"{path}:3: " in said) == (2, True)
    assert read < MOST_READ


ROWS = 499_980
WIDEST = {
    "ours.csv": ("t_ms,up_kbps,down_kbps,delay_ms,cell\n", "{0},{1},7,1.5,a\n", "nan,1,1,1,a\n", "time"),
    "mssn.csv": (
        "time_delta,DL_Throughput,UL_Throughput,lat,lon,dst_nrcell_cid\n",
        "{0},{1},1,5.{0},5.{1},c\n",
        "999999,nan,1,1,1,c\n",
        "down_mbps",
    ),
    "ping.out": ("PING 10.0.0.1 (10.0.0.1) 38(66) bytes\n", "seq={0} time={1} ms\n", "seq=1 time=1.1.1 ms\n", "trip"),
}


@pytest.mark.parametrize("name", WIDEST)
def test_what_is_wrong_in_the_last_of_half_a_million_rows_is_told_in_little_memory(name, tmp_path):
    head, row, bad, what = WIDEST[name]
    path = tmp_path / name
    with path.open("w") as file:
        file.write(head)
        file.writelines(row.format(t, t % 977) for t in range(1, ROWS))
        file.write(bad)
    assert path.stat().st_size < 16 * 2**20
    code, peak_kb, _, said = shown(path)
    assert code == 2
    assert f"{path}:{ROWS + 1}: " in said
    assert what in said
    assert peak_kb < MOST_KB


@pytest.mark.parametrize("row", ["1,", "1 ", "2020-04-06 18:56:15.0_1,"])
def test_a_line_of_millions_of_fields_is_not_split(row, tmp_path):
    path = tmp_path / "throughput.list"
    path.write_text("Run 1\n" + row * (15 * 2**20 // len(row)) + "\n")
    code, peak_kb, _, said = shown(path)
    assert (code, f"{path}:2: a line of" in said) == (2, True)
    assert peak_kb < MOST_KB
