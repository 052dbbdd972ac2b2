# SPDX-License-Identifier: Apache-2.0
"""Pictures and questions → sequences for the decoder, with what every token is to learn.

Knows questions and tokens, no model. A batch shares each picture between its questions: one
sequence holds the picture once and then every question with its answer as a branch. A branch sees
the picture and itself, and its positions go on from the picture's end, exactly as if it were
asked alone.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from ..image.positions import text_positions, text_rotary
from ..language.chat import Chat, Message, Role
from ..language.chat_template import ChatStyle, prompt_from_chat
from ..language.prompt import CHAT_AFTER_TEXT, prompt_text
from ..language.tokenizer import Tokenizer
from ..model_config import ModelConfig
from ..scene.detections import Task
from ..synthetic.questions import Question
from .shown import Shown

IGNORE = -100  # label of a token that is not learned, as torch's cross-entropy has it
NUMBER = re.compile(r"-?\d+(?:\.\d+)?")
STRUCTURE_WEIGHT = 0.1
# What the last digit of a number can teach is small and noisy; what the first can is large.
INTEGER_WEIGHTS = (0.25, 1.0, 1.0, 1.0)  # units, tens, hundreds, thousands
DECIMAL_WEIGHTS = (1.0, 1.0, 0.3)  # before the point, tenths, hundredths
# Of the nine numbers of a 3D box the centre comes first: what is placed wrong is lost, what is
# turned wrong is found.
BOX_3D_WEIGHTS = (1.0, 1.0, 1.0, 0.6, 0.6, 0.6, 0.3, 0.3, 0.3)
# Of the tokens that say whether there is anything at all, and whether there is one more.
OPENING_WEIGHT = 3.0


@dataclass(frozen=True, kw_only=True, slots=True)
class QuestionBatch:
    """Sequences of what is shown and several questions each. T is the longest of them.

    Attributes:
        input_ids: (B, T) int64.
        visual_rows: (B, T) int64, row of the batch's visual tokens laid end to end, or -1.
        rope_cos, rope_sin: (B, T, head_dim/2) float32.
        mask: (B, 1, T, T) bool, True where a token may look.
        labels: (B, T) int64, the token after this one, or `IGNORE`.
        weights: (B, T) float32 of the labels.
        numbers: (B, T) int64, which number of an object's list this token writes; 0 for the token
            that says whether there is an object; -1 for all others.
        starts: (B, T) bool, tokens that write the first character of a number, or say whether
            there is one. No earlier digit tells them where to look.
        looks_at: (B, T, V) float32, image tokens that hold the object this token writes about;
            all zero where it writes about none.
        reads: (B, T, T) bool, tokens of the question that name that object; False where `numbers`
            is -1.
    """

    input_ids: Tensor
    visual_rows: Tensor
    rope_cos: Tensor
    rope_sin: Tensor
    mask: Tensor
    labels: Tensor
    weights: Tensor
    numbers: Tensor
    starts: Tensor
    looks_at: Tensor
    reads: Tensor


class QuestionPacker:
    """Turns pictures' questions into a `QuestionBatch`."""

    def __init__(self, tokenizer: Tokenizer, config: ModelConfig) -> None:
        self.tokenizer, self.config = tokenizer, config
        self.end_of_turn = tokenizer.token_id("<|im_end|>")
        self.after = tokenizer.encode(CHAT_AFTER_TEXT)

    def pack(
        self,
        shown: Shown,
        questions: Sequence[Sequence[Question]],
        *,
        whole: Sequence[Sequence[bool]] | None = None,
    ) -> QuestionBatch:
        """Answers about one object that are not `whole` end with its numbers."""
        prefix = self._prefix(shown)
        position_ids, delta = text_positions(prefix, shown.grid_thw, self.config)
        is_visual = np.isin(prefix, (self.config.image_token_id, self.config.video_token_id))
        visual = int(is_visual.sum())
        after_prefix = len(prefix) + delta
        whole = whole or [[True] * len(asked) for asked in questions]
        branches = [
            [self._branch(question, whole=w) for question, w in zip(asked, wholes, strict=True)]
            for asked, wholes in zip(questions, whole, strict=True)
        ]
        T = len(prefix) + max(sum(len(b.ids) for b in some) for some in branches)
        B = len(branches)
        ids = np.zeros((B, T), np.int64)
        rows = np.full((B, T), -1, np.int64)
        labels, weights = np.full((B, T), IGNORE, np.int64), np.zeros((B, T), np.float32)
        numbers, starts = np.full((B, T), -1, np.int64), np.zeros((B, T), bool)
        looks_at = np.zeros((B, T, visual), np.float32)
        reads = np.zeros((B, T, T), bool)
        branch_of = np.full((B, T), -1, np.int64)  # 0 the picture, then 1, 2, ...; -1 padding
        positions = np.zeros((B, 3, T), np.int64)
        coverage = shown.coverage.numpy()
        for b, some in enumerate(branches):
            ids[b, : len(prefix)] = prefix
            rows[b, : len(prefix)][is_visual] = b * visual + np.arange(visual)
            branch_of[b, : len(prefix)] = 0
            positions[b, :, : len(prefix)] = position_ids
            at = len(prefix)
            for number, branch in enumerate(some, start=1):
                end = at + len(branch.ids)
                ids[b, at:end] = branch.ids
                # Row i writes token i + 1.
                labels[b, at : end - 1] = branch.labels[1:]
                weights[b, at : end - 1] = branch.weights[1:]
                numbers[b, at : end - 1] = branch.numbers[1:]
                starts[b, at : end - 1] = branch.starts[1:]
                branch_of[b, at:end] = number
                positions[b, :, at:end] = after_prefix + np.arange(len(branch.ids))
                for offset in np.flatnonzero(branch.numbers[1:] >= 0):
                    line = branch.lines[offset + 1]
                    reads[b, at + offset, at + branch.named[line]] = True
                    for target in branch.targets[line]:
                        seen = coverage[b, shown.slots[b][target]]
                        looks_at[b, at + offset] += seen >= 0.4 * seen.max()
                at = end
        looks_at = np.minimum(looks_at, 1)
        rotary = [text_rotary(positions[b], self.config.text) for b in range(B)]
        mine = (branch_of[:, :, None] == branch_of[:, None]) | (branch_of[:, None] == 0)
        mask = np.tril(mine)  # padding looks at padding, so no row is empty
        return QuestionBatch(
            input_ids=torch.from_numpy(ids),
            visual_rows=torch.from_numpy(rows),
            rope_cos=torch.from_numpy(np.stack([cos for cos, _ in rotary])),
            rope_sin=torch.from_numpy(np.stack([sin for _, sin in rotary])),
            mask=torch.from_numpy(mask)[:, None],
            labels=torch.from_numpy(labels),
            weights=torch.from_numpy(weights),
            numbers=torch.from_numpy(numbers),
            starts=torch.from_numpy(starts),
            looks_at=torch.from_numpy(looks_at),
            reads=torch.from_numpy(reads),
        )

    def _prefix(self, shown: Shown) -> npt.NDArray[np.int64]:
        """Token ids of all that stands before a question, as it would be asked at run time."""
        message = Message(role=Role.USER, parts=(*shown.visuals, ""))
        chat = Chat(messages=(message,), label_visuals=shown.is_labelled)
        prompt = prompt_from_chat(chat, ChatStyle.INSTRUCT, self.tokenizer, self.config)
        return prompt.input_ids[: -len(self.after)]

    def _branch(self, question: Question, *, whole: bool) -> _Branch:
        asked = self.tokenizer.encode(prompt_text(question.query) + CHAT_AFTER_TEXT)
        answered = [*self.tokenizer.encode(question.answer), self.end_of_turn]
        text, spans = self.tokenizer.decode_with_spans(answered)
        n = len(asked) + len(answered)
        weights, starts = np.zeros(n, np.float32), np.zeros(n, bool)
        lines, numbers = np.full((2, n), -1, np.int64)
        if question.words:
            # The first token decides; all look at the same things.
            first, end = len(asked), n
            weights[first:], starts[first] = 1.0, True
            lines[first : n - 1] = numbers[first : n - 1] = 0
            targets: tuple[tuple[int, ...], ...] = (question.targets,)
        else:
            by_character = answer_weights(text)
            line_of, number_of, start_of, more = _numbers_of_characters(text)
            for i, (first, last) in enumerate(spans, start=len(asked)):
                weights[i] = by_character[first:last].max(initial=STRUCTURE_WEIGHT)
                if line_of[first:last].max(initial=-1) >= 0:
                    lines[i] = line_of[first:last].max()
                    numbers[i] = number_of[first:last].max()
                    starts[i] = start_of[first:last].any()
                    if question.query.task is Task.DETECT_3D:
                        weights[i] *= BOX_3D_WEIGHTS[numbers[i]]
                if more[first:last].max(initial=-1) >= 0:
                    # "}," or "}": whether there is one more, and then which.
                    lines[i], numbers[i] = more[first:last].max(), 0
                    weights[i], starts[i] = OPENING_WEIGHT, True
            # Whether there is anything at all is decided by one token: "[]" or "[".
            opening = len(asked) + next(i for i, (a, b) in enumerate(spans) if "[" in text[a:b])
            weights[opening], starts[opening] = OPENING_WEIGHT, True
            lines[opening] = numbers[opening] = 0
            targets = (*((target,) for target in question.targets), ())
            # One token after the last number says that the list is over.
            shortened = not whole and len(question.lines) == 1
            last_number = (
                int(np.flatnonzero((numbers >= 0) & (weights != OPENING_WEIGHT))[-1])
                if shortened
                else n
            )
            end = min(n, last_number + 2)
        return _Branch(
            ids=np.array(asked + answered, np.int64)[:end],
            labels=np.array([IGNORE] * len(asked) + answered, np.int64)[:end],
            weights=weights[:end],
            numbers=numbers[:end],
            starts=starts[:end],
            lines=lines[:end],
            targets=targets,
            named=self._named(question, asked),
        )

    def _named(self, question: Question, asked: list[int]) -> list[npt.NDArray[np.int64]]:
        """Which tokens of the question name each object answered, and what could come after."""
        text, spans = self.tokenizer.decode_with_spans(asked)
        query = question.query
        words = ", ".join(query.categories) or query.text
        # What is written is asked for without words of the asker's.
        begin = text.index(words) if words else 0
        named = []
        for name in (*question.named, question.named[-1]):
            first = text.index(name, begin)
            last = first + len(name)
            named.append(
                np.array([i for i, (a, b) in enumerate(spans) if a < last and b > first and a < b])
            )
        return named


@dataclass(frozen=True, kw_only=True, slots=True)
class _Branch:
    """One question and answer, (n,) each; entry i says how token i itself is to be learned.

    `lines` says which line of the answer a token with a number is of, one past the last where
    there is none; `targets` and `named` hold the objects of every line and the tokens of the
    question that name them.
    """

    ids: npt.NDArray[np.int64]
    labels: npt.NDArray[np.int64]
    weights: npt.NDArray[np.float32]
    numbers: npt.NDArray[np.int64]
    starts: npt.NDArray[np.bool_]
    lines: npt.NDArray[np.int64]
    targets: tuple[tuple[int, ...], ...]
    named: list[npt.NDArray[np.int64]]


def answer_weights(text: str) -> npt.NDArray[np.float32]:
    """(len(text),) how much each character of an answer is worth learning."""
    weights = np.full(len(text), STRUCTURE_WEIGHT, np.float32)
    for match in NUMBER.finditer(text):
        digits = match.group().lstrip("-")
        first = match.end() - len(digits)
        whole, _, decimals = digits.partition(".")
        if decimals:
            # "1.25": the point is structure.
            weights[first : first + len(whole)] = DECIMAL_WEIGHTS[0]
            places = DECIMAL_WEIGHTS[1 : 1 + len(decimals)]
            weights[first + len(whole) + 1 : match.end()][: len(places)] = places
        else:
            weights[first : match.end()] = INTEGER_WEIGHTS[: len(digits)][::-1]
        weights[match.start() : first] = 1.0  # the sign
        weights[match.end() : match.end() + 1] = 0.3  # that the number ends here
    return weights


def _numbers_of_characters(
    text: str,
) -> tuple[
    npt.NDArray[np.int64], npt.NDArray[np.int64], npt.NDArray[np.bool_], npt.NDArray[np.int64]
]:
    """(len(text),) each: the answer line and the number in its list a character is of, or -1;
    whether it is the first of its number; and of the brace that ends a line, the line after it."""
    line_of, number_of, more = np.full((3, len(text)), -1, np.int64)
    start_of = np.zeros(len(text), bool)
    for line, numbers in enumerate(re.finditer(r"(?<=: )\[[^\]]*\]", text)):
        for index, match in enumerate(NUMBER.finditer(text, numbers.start(), numbers.end())):
            line_of[match.start() : match.end()] = line
            number_of[match.start() : match.end()] = index
            start_of[match.start()] = True
        more[text.index("}", numbers.end())] = line + 1
    return line_of, number_of, start_of, more
