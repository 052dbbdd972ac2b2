# SPDX-License-Identifier: Apache-2.0
"""Which wishes of a request can be served: the likeliest answer, in plain words, once.

Knows the fields of the OpenAI protocol and those that vLLM, SGLang and llama.cpp put beside them.
What would change the answer is refused, for an answer otherwise than asked looks like the one
asked for. What would not (user, seed, top_p and top_k of a greedy answer, ...) is ignored, and so
is every field that nobody here has heard of, as other servers do.
"""

from __future__ import annotations

from collections.abc import Mapping

from .fields import Field

# For each field the values that change nothing, beside null, and what to do about any other.
_GREEDY = "this server gives the likeliest answer only: leave it out, or send 0"
_PENALTY = "this server does not penalise tokens: leave it out"
_FREE = "this server does not constrain answers: leave it out, and say the form in the question"
_TEMPLATE = "this server renders the checkpoint's own template: leave it out"
_REFUSED: Mapping[str, tuple[tuple[object, ...], str]] = {
    "temperature": ((0,), _GREEDY),
    "n": ((1,), "this server gives the one likeliest answer: leave it out"),
    "best_of": ((1,), "this server gives the one likeliest answer: leave it out"),
    "use_beam_search": ((False,), "this server takes the likeliest token each time: leave it out"),
    "frequency_penalty": ((0,), _PENALTY),
    "presence_penalty": ((0,), _PENALTY),
    "repetition_penalty": ((1,), _PENALTY),
    "logit_bias": (({},), "this server biases no token: leave it out"),
    "bad_words": (([],), "this server forbids no words: leave it out"),
    "stop": (([], ""), "this server ends answers where the model does: cut the text yourself"),
    "stop_token_ids": (([],), "this server ends answers where the model does: leave it out"),
    "min_tokens": ((0,), "this server ends answers where the model does: leave it out"),
    "ignore_eos": ((False,), "this server ends answers where the model does: leave it out"),
    "response_format": (({"type": "text"},), _FREE),
    "structured_outputs": ((), _FREE),
    "guided_json": ((), _FREE),
    "guided_regex": ((), _FREE),
    "guided_choice": ((), _FREE),
    "guided_grammar": ((), _FREE),
    "grammar": (("",), _FREE),
    "json_schema": (({},), _FREE),
    "regex": ((), _FREE),
    "ebnf": ((), _FREE),
    "functions": (([],), "it was replaced in the protocol: offer them as 'tools'"),
    "function_call": (("auto", "none"), "it was replaced in the protocol: use 'tool_choice'"),
    "tool_choice": (("auto", "none"), "this server cannot force a call: say so in the question"),
    "modalities": ((["text"],), "this model answers in words: leave it out"),
    "audio": ((), "this model answers in words: leave it out"),
    "reasoning_effort": (
        (),
        "Qwen3-VL thinks or does not, by its checkpoint: leave it out, or serve the other one",
    ),
    "chat_template": ((), _TEMPLATE),
    "chat_template_kwargs": (({},), _TEMPLATE),
    "add_generation_prompt": ((True,), _TEMPLATE),
    "continue_final_message": ((False,), "this server begins a turn of its own: leave it out"),
    "echo": ((False,), "this server repeats no prompt: leave it out"),
    "mm_processor_kwargs": (({},), "this server resizes as the checkpoint says: leave it out"),
    "top_logprobs": ((0,), "this server tells the chosen token's log-probability only: send 0"),
}


def check_greedy(request: Field) -> None:
    """Refuses a request for anything but the likeliest answer.

    Raises:
        Refusal: it names the field.
    """
    for name, (neutral, advice) in _REFUSED.items():
        field = request.get(name)
        if not field.is_absent and not any(_same(field.value, value) for value in neutral):
            raise field.wrong(f"{_listed(neutral)}; {advice}")
    if request.get("parallel_tool_calls").value is False and request.get("tools").value:
        raise request.get("parallel_tool_calls").wrong(
            "true; this server cannot hold the model to one call: take the first"
        )


def _same(value: object, neutral: object) -> bool:
    # In Python 1 is True and 0 is False; in JSON they are not.
    return value == neutral and isinstance(value, bool) == isinstance(neutral, bool)


def _listed(neutral: tuple[object, ...]) -> str:
    shown = [repr(value).replace("'", '"') if value != "" else '""' for value in neutral]
    words = [{"True": "true", "False": "false"}.get(word, word) for word in shown]
    return " or ".join([*words, "no such field"])
