"""Adding the last of a million records takes no more memory than adding the last of a hundred thousand."""

from __future__ import annotations

import subprocess

import pytest
from benchmarks.corpus import write_jsonl
from peak import LAUNCHER, peak_in
from program import PROGRAM, Powermem

MIB_TO_AND_FRO = 8  # between two runs on the same input


@pytest.mark.soak
@pytest.mark.timeout(1800)
def test_memory_does_not_grow_with_the_store(tmp_path):
    peaks = []
    for number in (100_000, 1_000_000):
        folder = tmp_path / str(number)
        folder.mkdir()
        source = write_jsonl(folder / "records.jsonl", number)
        command = [*LAUNCHER, str(folder / "peak"), *PROGRAM, "add", "--file", str(source), "--quiet"]
        subprocess.run(command, env=Powermem(folder).environ, cwd=folder, stdin=subprocess.DEVNULL, check=True)
        peaks.append(peak_in(folder / "peak"))
    assert peaks[1] < peaks[0] + MIB_TO_AND_FRO
    assert max(peaks) < 250
