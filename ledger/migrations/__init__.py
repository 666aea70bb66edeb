"""The schema's steps: numbered files, applied in order, once, by whichever process opens the ledger first.

A file never changes once released; what must change gets the next number.
"""

from importlib.resources import files

from hooktape.errors import LedgerError
from hooktape.ledger.database import Database


def steps() -> dict[int, str]:
    """Number → SQL of every step, in order."""
    found = {int(f.name[:4]): f.read_text("utf-8") for f in files(__name__).iterdir() if f.name.endswith(".sql")}
    return dict(sorted(found.items()))


def migrate(database: Database) -> None:
    """Brings the database to this version's schema. Raises LedgerError when a newer version wrote it, and as `write` does."""
    known = steps()
    with database.migrating() as transaction:
        transaction.run("CREATE TABLE IF NOT EXISTS migrations (number INTEGER PRIMARY KEY)")
        done = {number for (number,) in transaction.rows("SELECT number FROM migrations")}
        if newer := sorted(done - known.keys()):
            raise LedgerError(f"The ledger's schema is at step {newer[-1]}; this Hooktape knows {max(known)}. A newer Hooktape "
                              "wrote it: upgrade this one, or point HOOKTAPE_DATABASE_URL elsewhere.")  # fmt: skip
        for number, text in known.items():
            if number not in done:
                for statement in _statements(text, database):
                    transaction.run(statement)
                transaction.run("INSERT INTO migrations (number) VALUES (:number)", {"number": number})


def _statements(text: str, database: Database) -> list[str]:
    bare = "\n".join(line for line in text.splitlines() if not line.lstrip().startswith("--"))
    for token, word in database.words.items():
        bare = bare.replace("{" + token + "}", word)
    return [statement for part in bare.split(";") if (statement := part.strip())]
