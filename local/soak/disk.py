"""A disk that loses power: an ext4 in a file, mounted by a loop device. What the kernel hasn't written is lost, as in a power cut.

A kill can't show that: what a killed process had written stays in the kernel's memory and reaches the disk later. Here the file is
copied as it is at that instant, and the copy is mounted in its place.
"""

import os
import shutil
import subprocess
import sys
from pathlib import Path

from hooktape.errors import LocalStackError

_BYTES = 1 << 30  # a block writes under 100 MB; the file is sparse
_TOOLS = ("mkfs.ext4", "mount", "umount", "cp", "sync")


class Disk:
    """Mounted at `point`, its file in `folder`. `close` unmounts it."""

    def __init__(self, point: Path, folder: Path) -> None:
        self._point, self._folder, self._cuts = point, folder, 0
        point.mkdir(parents=True)
        image = self._image()
        with image.open("wb") as file:
            file.truncate(_BYTES)
        # Without a lazy thread that goes on writing tables behind our back.
        _run("mkfs.ext4", "-q", "-E", "lazy_itable_init=0,lazy_journal_init=0", str(image))
        self._mount(image)

    def settle(self) -> None:
        """Everything so far reaches the disk."""
        _run("sync", "--file-system", str(self._point))

    def snapshot(self) -> None:
        """Copies what the disk holds now. Whoever writes to it should be frozen: a power cut takes an instant, a copy some ms."""
        self._cuts += 1
        _run("cp", "--sparse=always", str(self._image(-1)), str(self._image()))

    def lose_power(self) -> None:
        """Puts the snapshot in the disk's place. Open files of the old one lead nowhere."""
        _run("umount", "--lazy", str(self._point))
        self._mount(self._image())

    def close(self) -> None:
        """Unmounts it."""
        _run("umount", "--lazy", str(self._point))

    def _image(self, step: int = 0) -> Path:
        return self._folder / f"disk-{self._cuts + step}.img"

    def _mount(self, image: Path) -> None:
        _run("mount", "-o", "loop", str(image), str(self._point))


def why_not(folder: Path) -> str:
    """Why no power can be cut on this machine; "" where it can."""
    if sys.platform != "linux" or os.geteuid() != 0:
        return "a power cut needs Linux and root, to mount a disk of its own"
    if missing := [tool for tool in _TOOLS if shutil.which(tool) is None]:
        return f"a power cut needs {', '.join(missing)}"
    try:
        Disk(folder / "trial", folder).close()
    except LocalStackError as error:
        return f"a power cut needs loop devices: {error}"
    return ""


def _run(*words: str) -> None:
    done = subprocess.run(words, capture_output=True, text=True)
    if done.returncode:
        raise LocalStackError(f"`{' '.join(words)}` ended with status {done.returncode}: {done.stderr.strip()[-300:]}")
