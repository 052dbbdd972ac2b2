# SPDX-License-Identifier: Apache-2.0
"""The rotation that tower and decoder share.

Knows no positions: by which angle a row turns is computed in `image/positions.py`.
"""

from __future__ import annotations

import torch
from torch import Tensor


def rotated(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """`x` (..., d) turned by angles (..., d/2); dimension j pairs with j + d/2."""
    x1, x2 = x.float().chunk(2, dim=-1)
    return torch.cat((x1 * cos - x2 * sin, x2 * cos + x1 * sin), dim=-1).to(x.dtype)
