"""What the processor computes fast."""

import pytest

from net import devices

CPUINFO = (
    "processor\t: 0\nmodel name\t: {}\nflags\t\t: fpu avx2 {}\nbugs\t\t: avx512f\n\nprocessor\t: 1\nflags\t\t: fpu\n"
)


@pytest.mark.parametrize(
    ("flags", "avx512", "bfloat16"),
    [
        ("", False, False),
        ("avx512f avx512bw", True, False),
        ("avx512f avx512_bf16", True, True),
        ("avx512f amx_bf16 amx_tile", True, True),
        ("avx512_bf16x", False, False),
    ],
)
def test_features_of_the_first_processor(monkeypatch, tmp_path, flags, avx512, bfloat16):
    (tmp_path / "cpuinfo").write_text(CPUINFO.format("avx512_bf16", flags))
    monkeypatch.setattr(devices, "_PROCESSOR", tmp_path / "cpuinfo")
    devices.processor_features.cache_clear()
    assert (devices.has_avx512(), devices.precision_of(True) is devices.Precision.BFLOAT16) == (avx512, bfloat16)
    devices.processor_features.cache_clear()


@pytest.mark.parametrize("text", [None, "", "processor\t: 0\nFeatures\t: fp asimd bf16\n"])
def test_nothing_where_the_system_tells_nothing(monkeypatch, tmp_path, text):
    if text is not None:
        (tmp_path / "cpuinfo").write_text(text)
    monkeypatch.setattr(devices, "_PROCESSOR", tmp_path / "cpuinfo")
    devices.processor_features.cache_clear()
    assert devices.processor_features() == frozenset()
    devices.processor_features.cache_clear()
