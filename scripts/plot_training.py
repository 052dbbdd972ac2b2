# SPDX-License-Identifier: Apache-2.0
"""Draws what a training run of the tiny checkpoint reported: log.jsonl in, a picture out.

    .venv/bin/python scripts/plot_training.py docs/tiny_training.jsonl docs/tiny_training.png

"Watched" scenes are never learned from.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

# Of each stage: title, unit of the axis, and what is drawn with its name.
PANELS = (
    ("tower", "Tower: what every image token knows", {
        "watched_color": "colour right",
        "watched_shape": "shape right",
        "watched_iou": "IoU of its box",
        "watched_hundreds": "hundreds digits right",
        "watched_ranks": "superlatives right",
        "watched_related": "relations right",
        "watched_words": "painted words right",
    }),
    ("decoder", "Decoder over the frozen tower", {
        "watched_opening": "present or absent, right",
        "watched_looking": "attention on the object at first digits",
        "watched_leading_digits": "leading digits right",
        "watched_answer_iou": "IoU of boxes it writes",
    }),
)  # fmt: skip


def main(log: Path, picture: Path) -> None:
    lines_of_log = log.read_text(encoding="utf-8").splitlines()
    # Rows of watched scenes have no loss.
    rows = [row for row in map(json.loads, lines_of_log) if "loss" not in row]
    figure = Figure(figsize=(11, 4), layout="constrained", dpi=110)
    FigureCanvasAgg(figure)
    for axes, (stage, title, lines) in zip(figure.subplots(1, 2), PANELS, strict=True):
        for key, name in lines.items():
            seen = [
                (row["step"], row[key]) for row in rows if row["stage"] == stage and key in row
            ]
            if seen:  # older logs know less
                axes.plot(*zip(*seen, strict=True), marker="o", markersize=3, label=name)
        axes.set(title=title, xlabel="step", ylim=(0, 1.02))
        axes.grid(alpha=0.3)
        axes.legend(loc="lower right", frameon=False)
    figure.savefig(picture)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
