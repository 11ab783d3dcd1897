"""Device profiles: what each class of processor sustains on dense float32 work, and where the figure comes from.

`flops_per_s` is what inference sustains, not the data sheet's peak: peak times the share named in the comment (big
matrix products reach 45 to 75 % on server parts, phones throttle). A node of an experiment may override any field.
One multiply-add counts as two.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

GIGA = 10**9
TERA = 10**12
GIB = 2**30


@dataclass(frozen=True, slots=True)
class Device:
    flops_per_s: int
    memory_bytes: int
    memory_bytes_per_s: int


_PROFILES = {
    # Big cores of a 2023 phone SoC (Cortex-X3 at 3.2 GHz: four 128-bit FMA pipes = 32 FLOP a cycle, 102 GFLOP/s;
    # two Cortex-A715 at 2.8 GHz: 16 a cycle, 45 each): 190 GFLOP/s peak, about half of it sustained once warm.
    # 8 GB LPDDR5X, of which one application gets half; 64 bits at 8533 MT/s = 68 GB/s, shared with the display.
    "phone": Device(100 * GIGA, 4 * GIB, 51 * GIGA),
    # The same phone with its neural unit: vendors state 15 to 30 TOPS at int8 (Apple A15: 15.8); transformers in
    # fp16 reach about an eighth of that.
    "phone_npu": Device(2 * TERA, 4 * GIB, 51 * GIGA),
    # NVIDIA Jetson Orin Nano 8 GB data sheet: 1024 CUDA cores at 625 MHz = 1.28 TFLOP/s float32, 68 GB/s, 8 GB
    # shared with the CPU; Xavier NX: 384 cores at 1.1 GHz = 0.84, 51 GB/s (59.7 with 16 GB). Half of Orin's peak
    # sustained, 6 GiB free.
    "edge_small": Device(640 * GIGA, 6 * GIB, 68 * GIGA),
    # NVIDIA T4 data sheet: 8.1 TFLOP/s float32, 16 GB, 320 GB/s; its 70 W limit holds it at about half.
    "mec_gpu": Device(4 * TERA, 16 * GIB, 320 * GIGA),
    # NVIDIA A100 40 GB data sheet: 19.5 TFLOP/s float32, 1555 GB/s; about 70 % sustained.
    "cloud_gpu": Device(14 * TERA, 40 * GIB, 1555 * GIGA),
    # Intel Xeon Gold 6248: 20 cores, two AVX-512 FMA units (64 FLOP a cycle) at the 1.6 GHz AVX-512 base clock
    # = 2.0 TFLOP/s, half sustained; six channels of DDR4-2933 = 141 GB/s.
    "server_cpu": Device(1 * TERA, 64 * GIB, 141 * GIGA),
}
PROFILES: Mapping[str, Device] = MappingProxyType(_PROFILES)
