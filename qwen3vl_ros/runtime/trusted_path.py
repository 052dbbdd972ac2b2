# SPDX-License-Identifier: Apache-2.0
"""Whether a path may be read as an engine: written out in full, and changed by nobody else.

Knows no engine. A runtime runs what a graph or plan says, so whoever can write one can run code as
this process. Hashes do not help against that: the manifest lies beside the files.

The rule: a file and the directories between it and the engine belong to this process's user, to
root, or to the owner of this very code (who can run anything here already, so that a checkout read
from a container works as a whole); and none of them can be written by everybody. A group may write
them: who is in it is the owner's choice, and the umask of several distributions says so.
Directories above the engine's are not looked at.
"""

from __future__ import annotations

import os
import re
import shlex
import stat
from collections.abc import Iterable
from pathlib import Path

from ..errors import EngineError

_VARIABLE = re.compile(r"\$(\w+|\{\w+\})")


def check_spelled_out(path: Path) -> None:
    """Raise for what only a shell would have made a path of, unless there is such a file.

    Raises:
        EngineError: a NUL character, "~" at the start, or "$NAME".
    """
    text = str(path)
    if "\0" in text:
        raise EngineError(
            f"the path {text!r} holds a NUL character, which no file name can; expected a "
            "directory: check what put it together"
        )
    for place in (*reversed(path.parents), path):
        starts_with_tilde = place == Path(path.parts[0] if path.parts else "") and (
            place.name.startswith("~")
        )
        if (starts_with_tilde or _VARIABLE.search(place.name)) and not os.path.lexists(place):
            meant = os.path.expandvars(os.path.expanduser(text))
            hint = f", perhaps {meant}" if meant != text else ""
            raise EngineError(
                f"there is no directory named '{place.name}': '~' and '$NAME' are expanded by a "
                f"shell, and none saw this path; write it out in full{hint}; got {text}"
            )


def check_trusted(directory: Path, files: Iterable[str]) -> None:
    """Raise unless only this user, root, or the owner of this code can have changed these files.

    Args:
        directory: of an engine; links are followed, and what they lead to is looked at.
        files: names relative to it, of files that exist below it.

    Raises:
        EngineError: with the path, whose it is, and the command that puts it right.
    """
    root = directory.resolve()
    places = {root}
    for name in files:
        named = root / name
        # Where a link stands matters as much as what it leads to: either decides what is read.
        for file in (named, named.resolve()):
            places.update(place for place in file.parents if place.is_relative_to(root))
        places.add(named.resolve())
    trusted = {os.geteuid(), 0, Path(__file__).stat().st_uid}
    for place in sorted(places):
        status = place.stat()
        if status.st_uid not in trusted:
            raise EngineError(
                f"{place} belongs to user {status.st_uid}, and an engine is read only from files "
                f"of the user who runs it ({os.geteuid()}) or of root, since whoever writes one "
                f"can run code as its reader; if you trust it: sudo chown -R {os.geteuid()} "
                f"{shlex.quote(str(root))}; or, where it is mounted or shared, copy it: "
                f"cp -r {shlex.quote(str(root))} <directory of yours>"
            )
        if status.st_mode & stat.S_IWOTH:
            raise EngineError(
                f"{place} can be written by every user of this machine (mode "
                f"{stat.S_IMODE(status.st_mode):04o}), and whoever writes an engine can run code "
                f"as its reader; if you trust what is in it: chmod -R o-w "
                f"{shlex.quote(str(root))}; where the file system knows no modes, copy it: "
                f"cp -r {shlex.quote(str(root))} <directory of yours>"
            )
