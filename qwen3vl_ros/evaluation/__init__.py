# SPDX-License-Identifier: Apache-2.0
"""How right a model is: questions with their truths, what it answered, and numbers about both."""
