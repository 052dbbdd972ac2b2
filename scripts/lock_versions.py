# SPDX-License-Identifier: Apache-2.0
"""`make lock`: writes the exact versions in .venv to requirements/lock-py3XX.txt.

Only what our requirements lead to is written, so a package installed by hand stays out.
"""

from __future__ import annotations

import re
import sys
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

from packaging.requirements import Requirement

REQUIREMENTS = Path(__file__).resolve().parent.parent / "requirements"
LOCK = REQUIREMENTS / f"lock-py{sys.version_info.major}{sys.version_info.minor}.txt"


def normalized(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def main() -> None:
    wanted = [
        Requirement(line)
        for path in REQUIREMENTS.glob("*.txt")
        if not path.name.startswith("lock")
        for line in path.read_text().splitlines()
        if line and not line.startswith("#")
    ]
    versions: dict[str, str] = {}
    seen: set[str] = set()
    while wanted:
        requirement = wanted.pop()
        if str(requirement) in seen:
            continue
        seen.add(str(requirement))
        try:
            found = distribution(requirement.name)
        except PackageNotFoundError:
            continue  # for another platform, or an extra that is not installed
        # A constraint without the local part (2.13.0+cpu) fits every build of the version.
        versions[normalized(requirement.name)] = found.version.partition("+")[0]
        for line in found.requires or []:
            dependency = Requirement(line)
            extras = ["", *requirement.extras]
            marker = dependency.marker
            if marker is None or any(marker.evaluate({"extra": extra}) for extra in extras):
                wanted.append(dependency)
    lines = [f"{name}=={version}" for name, version in sorted(versions.items())]
    header = (
        f"# What make setup installs on Python {sys.version_info.major}.{sys.version_info.minor}"
    )
    LOCK.write_text("\n".join([f"{header}; written by make lock.", *lines, ""]))
    print(f"{LOCK.name}: {len(lines)} versions")


if __name__ == "__main__":
    main()
