"""Copies of one event inside a worker: one runs at a time, and the next is checked anew when it's over. Pure.

Shopify sends a webhook again when it heard no answer; both are on the tape. A check that was made while the first copy
was still here doesn't know how that one ends.
"""

from hooktape.consumers.task import Task


class Copies:
    """The events in this worker that the ledger hasn't seen the end of, by their ids (whatever day a copy has)."""

    def __init__(self) -> None:
        self._tasks: dict[bytes, Task | list[Task]] = {}

    def enter(self, task: Task) -> None:
        """It was checked and may run: at once, unless `is_first` says that another copy comes before it."""
        found = self._tasks.setdefault(task.key.id, task)
        if found is task:
            return
        task.copy = True
        if isinstance(found, list):
            found.append(task)
        else:
            self._tasks[task.key.id] = [found, task]

    def is_first(self, task: Task) -> bool:
        """Whether no other copy is in its way."""
        found = self._tasks.get(task.key.id)
        return found[0] is task if isinstance(found, list) else True

    def __contains__(self, id_: bytes) -> bool:
        """Whether any copy of the event is here."""
        return id_ in self._tasks

    def leave(self, task: Task) -> None:
        """Its end is in the ledger, or it's another worker's now."""
        found = self._tasks.get(task.key.id)
        if found is task:
            del self._tasks[task.key.id]
        elif isinstance(found, list) and task in found:
            found.remove(task)
            if len(found) == 1:
                self._tasks[task.key.id] = found[0]

    def __len__(self) -> int:
        return len(self._tasks)
