# SPDX-License-Identifier: Apache-2.0
"""Write the generated tables of README.md anew; with --check, only say whether they are old.

A table stands between `<!-- NAME -->` and `<!-- /NAME -->` and is made from the one place in the
code that declares it.
"""

from __future__ import annotations

import ast
import re
import sys
from pathlib import Path

from qwen3vl_ros.ros import synthetic_topics, topics
from qwen3vl_ros.ros.declared_parameters import parameter_table
from qwen3vl_ros.ros.parameters import NodeParameters
from qwen3vl_ros.ros.synthetic_parameters import SyntheticParameters
from qwen3vl_ros.ros.topics import endpoint_table

ROOT = Path(__file__).resolve().parents[1]
README = ROOT / "README.md"
# As imports point: each room may know the ones below it.
ROOMS = (
    "ros",
    "",
    "commands",
    "offline",
    "synthetic",
    "evaluation",
    "serving",
    "remote",
    "model",
    "language",
    "image",
    "runtime",
    "scene",
)


def file_table() -> str:
    """Every module with the first sentence of its header, room by room, as a Markdown table."""
    package = ROOT / "qwen3vl_ros"
    rows = ["| in `qwen3vl_ros/` | what it does |", "|---|---|"]
    for room in ROOMS:
        for path in sorted((package / room).glob("*.py")):
            if path.name != "__init__.py":
                header = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
                purpose = " ".join(header.split("\n\n")[0].split()).replace("|", "\\|")
                rows.append(f"| `{path.relative_to(package)}` | {purpose} |")
    return "\n".join(rows)


def readme_with_tables(text: str) -> str:
    """`text` with every generated table replaced.

    Raises:
        ValueError: a marker is missing.
    """
    tables = (
        ("endpoints", endpoint_table(topics.ENDPOINTS)),
        ("parameters", parameter_table(NodeParameters)),
        ("camera endpoints", endpoint_table(synthetic_topics.ENDPOINTS)),
        ("camera parameters", parameter_table(SyntheticParameters)),
        ("files", file_table()),
    )
    for name, table in tables:
        pattern = re.compile(rf"(<!-- {name} -->\n).*?(<!-- /{name} -->)", re.DOTALL)
        found = pattern.search(text)
        if found is None:
            raise ValueError(f"README.md has no <!-- {name} --> ... <!-- /{name} --> markers")
        text = f"{text[: found.end(1)]}{table}\n{text[found.start(2) :]}"
    return text


def main() -> int:
    """0 when README.md is as it should be, or was made so."""
    old = README.read_text(encoding="utf-8")
    new = readme_with_tables(old)
    if "--check" in sys.argv[1:]:
        if new != old:
            print("README.md: the generated tables are old; run: make readme", file=sys.stderr)
        return int(new != old)
    README.write_text(new, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
