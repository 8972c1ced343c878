import threading
from pathlib import Path

import pytest

from fuse.database import Database
from fuse.errors import StorageFailed

TABLE = "CREATE TABLE IF NOT EXISTS mine (value INTEGER) STRICT"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "aggregate.db"


def test_others_add_tables(path: Path) -> None:
    database = Database(path)
    database.ensure(TABLE)
    database.ensure(TABLE)
    with database.transaction() as connection:
        connection.execute("INSERT INTO mine VALUES (?)", (1,))
    database.close()
    again = Database(path)
    assert again.rows("SELECT value FROM mine") == [(1,)]
    again.close()


def test_a_transaction_is_all_or_nothing_and_nests(path: Path) -> None:
    database = Database(path)
    database.ensure(TABLE)

    def fail() -> None:
        with database.transaction() as outer:
            outer.execute("INSERT INTO mine VALUES (1)")
            with database.transaction() as inner:
                inner.execute("INSERT INTO mine VALUES (2)")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert database.rows("SELECT value FROM mine") == []
    with database.transaction(), database.transaction() as inner:
        inner.execute("INSERT INTO mine VALUES (3)")
    assert database.rows("SELECT value FROM mine") == [(3,)]
    database.close()


def test_connections_and_threads_wait_for_each_other(path: Path) -> None:
    databases = [Database(path), Database(path)]
    databases[0].ensure(TABLE)
    databases[0].connection.execute("INSERT INTO mine VALUES (0)")

    def add(database: Database) -> None:
        for _ in range(25):
            with database.transaction() as connection:
                ((value,),) = connection.execute("SELECT value FROM mine")
                connection.execute("UPDATE mine SET value = ?", (int(str(value)) + 1,))

    threads = [threading.Thread(target=add, args=(databases[n % 2],)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert databases[0].rows("SELECT value FROM mine") == [(100,)]
    for database in databases:
        database.close()


def test_failures_are_storage_errors(path: Path) -> None:
    database = Database(path)
    with pytest.raises(StorageFailed, match="no such table"):
        database.rows("SELECT * FROM absent")
    with pytest.raises(StorageFailed), database.transaction() as connection:
        connection.execute("nonsense")
    database.close()
    path.write_bytes(b"this is no database at all" * 100)
    with pytest.raises(StorageFailed, match="not a database"):
        Database(path)
