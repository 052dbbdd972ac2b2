# SPDX-License-Identifier: Apache-2.0
"""A model that is loaded when it is first asked, and looks at a picture once.

Data sets ask several questions about each picture, and the vision tower costs most of a short
answer. What was seen of another picture is forgotten. Where every answer is kept from an earlier
run, numbers are told anew without any model.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from ..language.chat import Chat
from ..language.chat_template import ChatStyle
from ..model.stopwatch import Stopwatch
from ..model.vision_language_model import AnswerBudget, Sight, View, VisionLanguageModel, Words


class RememberingModel:
    """A `VisionLanguageModel` around another one. Mutable; owned by one evaluation."""

    def __init__(self, load: Callable[[], VisionLanguageModel]) -> None:
        self._load = load
        self._loaded: VisionLanguageModel | None = None
        self._seen: tuple[View, Sight] | None = None

    @property
    def _model(self) -> VisionLanguageModel:
        if self._loaded is None:
            self._loaded = self._load()
        return self._loaded

    @property
    def style(self) -> ChatStyle:
        """See `VisionLanguageModel`."""
        return self._model.style

    def see(self, view: View, *, watch: Stopwatch) -> Sight:
        """See `VisionLanguageModel`; the same view again is not looked at again."""
        if self._seen is None or self._seen[0] is not view:
            self._seen = (view, self._model.see(view, watch=watch))
        return self._seen[1]

    def say(
        self,
        chat: Chat,
        sights: Sequence[Sight],
        *,
        budget: AnswerBudget,
        watch: Stopwatch,
        on_text: Callable[[str], None] | None = None,
    ) -> Words:
        """See `VisionLanguageModel`."""
        return self._model.say(chat, sights, budget=budget, watch=watch, on_text=on_text)
