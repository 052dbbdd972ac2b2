# SPDX-License-Identifier: Apache-2.0
"""A request for a chat completion, read: everything an answer depends on.

Knows the fields of the OpenAI protocol that are served; `greedy.py` has those that are refused.
"""

from __future__ import annotations

from dataclasses import dataclass

from ..errors import QueryError
from ..model.vision_language_model import AnswerBudget
from .fields import field_from_json
from .greedy import check_greedy
from .refusals import Refusal, refusal_from_error
from .turns import Told, told_from_request


@dataclass(frozen=True, kw_only=True, slots=True)
class ChatRequest:
    """What is asked for.

    Attributes:
        told: the conversation.
        budget: an answer may be cut, but not empty.
        stream: whether it is wanted as it comes.
        include_usage: whether a stream is to end with the counts of tokens.
        logprobs: whether each token's log-probability is wanted.
    """

    told: Told
    budget: AnswerBudget
    stream: bool
    include_usage: bool
    logprobs: bool

    @property
    def offers_tools(self) -> bool:
        """Whether calls in the answer are to be taken out of it."""
        return bool(self.told.chat.tools)


def request_from_body(body: bytes, *, model_name: str) -> ChatRequest:
    """A request, or why it is not served.

    Raises:
        Refusal: it names the field.
    """
    request = field_from_json(body)
    model = request.get("model")
    if model.text() != model_name:
        raise unknown_model(model.text(), model_name)
    check_greedy(request)
    most = request.get("max_completion_tokens")
    if most.is_absent:
        most = request.get("max_tokens")  # the older name
    stream, options = request.get("stream").flag(), request.get("stream_options")
    if not options.is_absent and not stream:
        raise options.refused('is for streams: send "stream": true with it, or leave it out')
    try:
        told = told_from_request(request)
    except QueryError as error:
        raise refusal_from_error(error) from error
    return ChatRequest(
        told=told,
        budget=AnswerBudget(least=1, most=None if most.is_absent else most.whole_number(least=1)),
        stream=stream,
        include_usage=not options.is_absent and options.get("include_usage").flag(),
        logprobs=request.get("logprobs").flag(),
    )


def unknown_model(asked: str, model_name: str) -> Refusal:
    """What to say to whoever wants another model."""
    return Refusal(
        f"there is no model '{asked[:64]}' here, expected '{model_name}'",
        status=404,
        param="model",
        code="model_not_found",
    )
