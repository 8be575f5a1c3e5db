"""Fuzz the parsers for a while and say what was found.

    python tests/fuzz/run.py --target jsonl --seconds 60     # one of them
    python tests/fuzz/run.py --seconds 600                   # each of them so long
    python tests/fuzz/run.py --target jsonl --replay FILE    # what was found, once more

Guided by coverage where atheris is installed (`pip install 'powermem-cli[fuzz]'`), else by a seeded mutator. What
broke a promise, or took longer than a second, is kept in a file of its own. The exit code is 1 if there is any.
"""

from __future__ import annotations

import argparse
import importlib.util
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

TESTS = Path(__file__).parents[1]
SLOW = 1.0  # seconds
HANGS = 5  # seconds


def guided(name: str, seconds: int, found: Path) -> int:
    """Never returns: the fuzzer ends the process, and its code says whether something was found."""
    import atheris
    from fuzz.mutate import LONGEST

    with atheris.instrument_imports(include=["powermem_cli"], enable_loader_override=False):
        from fuzz.targets import TARGETS
    target = TARGETS[name]
    with tempfile.TemporaryDirectory() as corpus, tempfile.NamedTemporaryFile("w") as words:
        for number, seed in enumerate(target.seeds):
            (Path(corpus) / str(number)).write_bytes(seed)
        words.writelines(f'"{_escaped(token)}"\n' for token in target.tokens)
        words.flush()
        limits = [
            f"-max_total_time={seconds}",
            f"-timeout={HANGS}",
            "-rss_limit_mb=1024",
            f"-max_len={LONGEST}",
            "-verbosity=0",
        ]
        flags = [*limits, "-print_final_stats=1", f"-dict={words.name}", f"-artifact_prefix={found}/{name}-"]
        atheris.Setup(["fuzz", *flags, corpus], target.check)
        atheris.Fuzz()
    return 0


def _escaped(token: bytes) -> str:
    return "".join([f"\\x{byte:02x}" for byte in token])


def _hangs(*_signal: object) -> None:
    raise TimeoutError(f"no end within {HANGS} s")


def by_chance(name: str, seconds: int, found: Path, seed: int) -> int:
    """The same without coverage; goes on after a finding, up to ten."""
    from fuzz.mutate import mutated
    from fuzz.targets import TARGETS

    target = TARGETS[name]
    signal.signal(signal.SIGALRM, _hangs)
    began, runs, findings = time.monotonic(), 0, 0
    for data in mutated(target.seeds, target.tokens, seed):
        before = time.monotonic()
        if before - began > seconds or findings == 10:
            break
        trouble = ""
        signal.alarm(HANGS)
        try:
            target.check(data)
        except Exception as error:  # noqa: BLE001 - that is what is looked for
            trouble = f"{type(error).__name__}: {error}"
        finally:
            signal.alarm(0)
        took = time.monotonic() - before
        if trouble or took > SLOW:
            findings += 1
            path = found / f"{name}-{seed}-{runs}"
            path.write_bytes(data)
            print(f"{name}: {trouble or f'{took:.1f} s'}: {path}")
        runs += 1
    print(f"{name}: {runs:,} runs, {findings} findings, seed {seed}")
    return 1 if findings else 0


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--target", help="its name; all of them one after the other by default")
    parser.add_argument("--seconds", type=int, default=30, help="for each target")
    parser.add_argument("--seed", type=int, default=1, help="of the mutator")
    parser.add_argument("--by-chance", action="store_true", help="without coverage, even where atheris is installed")
    parser.add_argument("--found", type=Path, default=Path("fuzz-found"), help="the folder for what breaks")
    parser.add_argument("--replay", type=Path, help="check the bytes of this file, and nothing else")
    options = parser.parse_args()
    sys.path.insert(0, str(TESTS))
    options.found.mkdir(parents=True, exist_ok=True)
    if options.target is None:
        return _each(options)
    if options.replay is not None:
        from fuzz.targets import TARGETS

        TARGETS[options.target].check(options.replay.read_bytes())
        return 0
    if options.by_chance or importlib.util.find_spec("atheris") is None:
        return by_chance(options.target, options.seconds, options.found, options.seed)
    return guided(options.target, options.seconds, options.found)


def _each(options: argparse.Namespace) -> int:
    """Each target in a process of its own: the guided fuzzer ends the one it runs in."""
    from fuzz.targets import TARGETS

    ended = [
        subprocess.run([sys.executable, __file__, *sys.argv[1:], "--target", name], check=False) for name in TARGETS
    ]
    return 1 if any(one.returncode for one in ended) else 0


if __name__ == "__main__":
    sys.exit(main())
