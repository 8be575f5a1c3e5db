"""End the program while it brings a store of the first schema up to date: the tables are the old ones or the new ones.

    python tests/crash/migrate.py [--step N] [--first N] [--power-cuts N] [--seed N]

SIGKILL before every operation on its files, or power cuts at random ones. Nothing is lost in either, and the next
program that opens the store finishes the work.
"""

from __future__ import annotations

import asyncio
import os
import random
import shutil
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

import apsw
import numpy as np
from crash.cut import DIED
from crash.disk import LEFT, Disk
from trials import options_of

from powermem_cli.identity import digest
from powermem_cli.stores.sqlite import SqliteStore
from powermem_cli.stores.sqlite_rows import indexed_terms, length_of
from powermem_cli.stores.sqlite_schema import APPLICATION_ID, MIGRATIONS
from powermem_cli.terms import distinct_terms

MEMORIES = 40
DIMS = 64
TEXTS = [f"note {number} about tea, trains and Lisbon" for number in range(1, MEMORIES + 1)]


def make_old(path: Path) -> None:
    """A store as the first version left it."""
    dice = np.random.default_rng(1)
    db = apsw.Connection(str(path))
    db.execute("PRAGMA journal_mode = WAL")
    db.execute("BEGIN")
    db.execute(MIGRATIONS[0])
    db.execute(f"PRAGMA application_id = {APPLICATION_ID}; PRAGMA user_version = 1")
    about = (("store_id", "old"), ("dims", DIMS), ("model", "test"), ("memories", MEMORIES))
    db.executemany("INSERT INTO meta VALUES (?, ?)", about)
    db.execute("INSERT INTO names VALUES (1, 'ann')")
    for id, text in enumerate(TEXTS, 1):
        vector = dice.normal(size=DIMS)
        vector = (vector / np.linalg.norm(vector)).astype("<f4")
        terms = distinct_terms(text)
        db.execute(
            "INSERT INTO memories VALUES (?, 1, NULL, NULL, ?, NULL, ?, ?, 1, 1, ?)",
            (id, text, digest(text), length_of(terms), np.packbits(vector > 0, bitorder="little").tobytes()),
        )
        db.execute("INSERT INTO embeddings VALUES (?, ?)", (id, vector.tobytes()))
        db.execute("INSERT INTO words (rowid, terms) VALUES (?, ?)", (id, indexed_terms(terms, 1)))
    db.execute("COMMIT")
    db.close()


async def problems(path: Path) -> list[str]:
    """What is wrong with it for the program, which brings it up to date first if need be."""
    store = SqliteStore(str(path))
    await store.open(None)
    try:
        return await store.verify()
    finally:
        await store.close()


def migrated(path: Path, disk: Disk | None, counted: Path | None = None) -> int:
    """Open the store in a fork of this process, then say how that ended: 0, or -signal."""
    child = os.fork()
    if not child:
        try:
            if disk is not None:
                os.dup2(os.open(path.with_name("said"), os.O_WRONLY | os.O_CREAT), 1)
                disk.install()
            code = 1 if asyncio.run(problems(path)) else 0
            if counted is not None and disk is not None:
                counted.write_text(str(disk.count))
        finally:
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def restart(folder: Path) -> None:
    """What the disk holds after the power came back."""
    left = folder / LEFT / "files"
    for path in folder.glob("*.db-shm"):
        path.unlink()
    for path in filter(Path.is_file, left.rglob("*")):
        target = folder / path.relative_to(left)
        if path.suffix == ".gone":
            target.with_suffix("").unlink(missing_ok=True)
        else:
            path.replace(target)
    shutil.rmtree(folder / LEFT)


def columns(db: apsw.Connection) -> list[str]:
    sql = "SELECT m.name || '.' || c.name FROM sqlite_schema m, pragma_table_info(m.name) c WHERE m.type = 'table'"
    return sorted(name for (name,) in db.execute(sql))


def wrong_between(path: Path, shapes: dict[int, list[str]]) -> Iterator[str]:
    """What a look at a copy finds that is neither old nor new."""
    place = path.parent / "copy"
    place.mkdir()
    for part in path.parent.glob(f"{path.name}*"):
        if not part.name.endswith("-shm"):
            shutil.copy(part, place)
    db = apsw.Connection(str(place / path.name))
    version = db.pragma("user_version")
    if version not in shapes or columns(db) != shapes[version]:
        yield f"it is of version {version}, with the columns {columns(db)}"
    if (said := [row[0] for row in db.execute("PRAGMA integrity_check")]) != ["ok"]:
        yield f"SQLite says {said[:3]}"
    if [text for (text,) in db.execute("SELECT text FROM memories ORDER BY id")] != TEXTS:
        yield "its memories are others"
    db.close()
    shutil.rmtree(place)


def one(at: int, shapes: dict[int, list[str]], power_cut: random.Random | None = None) -> tuple[bool, list[str]]:
    """Whether it was cut off, and what was wrong."""
    with tempfile.TemporaryDirectory(prefix="powermem-migrate-") as name:
        path = Path(name) / "memories.db"
        make_old(path)
        code = migrated(path, Disk(Path(name), at=at, power_cut=power_cut))
        if (Path(name) / LEFT).exists():
            restart(Path(name))
        found = [] if code in {0, DIED} else [f"it ended with {code}"]
        found += wrong_between(path, shapes)
        if migrated(path, None) != 0:
            found.append("the next program could not finish it")
        found += wrong_between(path, {len(MIGRATIONS): shapes[len(MIGRATIONS)]})
    return code == DIED, [f"operation {at}: {said}" for said in found]


def shapes_and_operations() -> tuple[dict[int, list[str]], int]:
    """The columns of the old schema and of the new one, and how many operations lie between them."""
    with tempfile.TemporaryDirectory(prefix="powermem-migrate-") as name:
        path, counted, shapes = Path(name) / "memories.db", Path(name) / "count", {}
        make_old(path)
        for version in (1, len(MIGRATIONS)):
            db = apsw.Connection(str(path))
            shapes[version] = columns(db)
            db.close()
            if version == 1:
                assert migrated(path, Disk(Path(name)), counted) == 0
        return shapes, int(counted.read_text())


def main() -> int:
    parser = options_of(__doc__)
    parser.add_argument("--step", type=int, default=1)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--power-cuts", type=int, default=0, help="so many power cuts, instead of SIGKILL")
    options = parser.parse_args()
    shapes, number = shapes_and_operations()
    dice, cuts, wrong = random.Random(options.seed), 0, []
    places = list(range(options.first, number, options.step))
    if options.power_cuts:
        places = [dice.randrange(number) for _ in range(options.power_cuts)]
    for at in places:
        was_cut, found = one(at, shapes, random.Random(dice.random()) if options.power_cuts else None)
        cuts, wrong = cuts + was_cut, wrong + found
    said = f"{cuts} cuts at {len(places)} of {number} operations of a migration, seed {options.seed}"
    print("\n".join([f"{said}: {len(wrong)} wrong", *wrong[:5]]))
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
