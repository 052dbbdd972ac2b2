# SPDX-License-Identifier: Apache-2.0
"""The commands of `qwen3vl`, one file each."""
