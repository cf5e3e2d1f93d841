"""One graphics card for two: a training asks for it, inference leaves it and comes back when the training has ended.

Two files in the `var` folder, locked with flock: the kernel lets go of them when their process dies, however it dies.

- `WANTED` is held by the training from the moment it asks until it ends. Inference looks at it before each batch and
  does not begin while somebody holds it.
- `HELD` is held by whoever has a model on the card: inference while one is loaded (several may), the training, alone,
  while it runs.

So a training takes WANTED, then waits for HELD; inference lets go of HELD as soon as it sees WANTED taken.
"""

import fcntl
import os
from pathlib import Path
from types import TracebackType
from typing import IO, Self

from django.conf import settings

WANTED = "card.wanted"
HELD = "card.lock"


class CardLock:
    """One of the two files; each object is one holder, also within one process."""

    def __init__(self, name: str) -> None:
        self._path = settings.VAR_DIR / "run" / name
        self._file: IO[bytes] | None = None

    def take(self, *, shared: bool = False) -> bool:
        """Take it now, or False where somebody else has it. Taking twice is taking once.

        Several may have it shared, as several processes of inference do, while nobody has it alone.
        """
        if self._file is not None:
            return True
        self._path.parent.mkdir(parents=True, exist_ok=True)
        file = self._path.open("ab")
        try:
            fcntl.flock(file, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
        except BlockingIOError:
            file.close()
            return False
        self._file = file
        return True

    def release(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None

    def fileno(self) -> int:
        """Of the file, while it is taken: a child that inherits it holds the lock as long as it lives."""
        if self._file is None:
            raise ValueError("The lock is not taken.")
        return self._file.fileno()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.release()


def is_card_wanted() -> bool:
    """Whether a training asks for the card or has it."""
    with CardLock(WANTED) as probe:
        return not probe.take(shared=True)


def has_card() -> bool:
    """Whether this machine has a graphics card that may be used, asked without importing torch."""
    if os.environ.get("CUDA_VISIBLE_DEVICES", "0") in {"", "-1"}:
        return False
    return any(Path("/dev").glob("nvidia[0-9]*")) or Path("/dev/kfd").exists()
