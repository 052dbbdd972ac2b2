# SPDX-License-Identifier: Apache-2.0
"""Writes docs/scenes.png: what synthetic rooms look like, and what is known of them."""

from __future__ import annotations

from pathlib import Path

from PIL import Image

from qwen3vl_ros.synthetic.contact_sheet import contact_sheet

SHEET = Path(__file__).resolve().parents[1] / "docs" / "scenes.png"
FIRST_SEED = 40
ROOMS = 12

if __name__ == "__main__":
    picture = Image.fromarray(contact_sheet(first_seed=FIRST_SEED, rooms=ROOMS))
    picture.save(SHEET, optimize=True)
    print(f"{ROOMS} rooms from seed {FIRST_SEED}: {SHEET}")
