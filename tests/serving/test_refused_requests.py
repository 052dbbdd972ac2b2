# SPDX-License-Identifier: Apache-2.0
"""What cannot be served is refused with one clear message, and the server lives on."""

from __future__ import annotations

import json

import httpx
import openai
import pytest
from PIL import Image

from tests.serving.requests import (
    WEATHER_TOOL,
    data_url,
    encoded,
    picture_part,
    request,
    speckled,
    user,
)

PIXEL = data_url(speckled(2, 2))
JSON = {"Content-Type": "application/json"}
ENDLESS_CALL = "<tool_call>\n" + "[" * 100_000 + "\n</tool_call>"


def shown(url: object) -> dict[str, object]:
    return request(user({"type": "image_url", "image_url": {"url": url}}, "What?"))


def called(arguments: object) -> dict[str, object]:
    function = {"name": "weather", "arguments": arguments}
    call = {"id": "1", "type": "function", "function": function}
    said = {"role": "assistant", "content": None, "tool_calls": [call]}
    return request(user("Weather?"), said, {"role": "tool", "tool_call_id": "1", "content": "dry"})


@pytest.fixture(scope="module")
def refusing(serve_for_a_module):
    """A server that is asked only what it refuses, and must still answer in the end."""
    served = serve_for_a_module("I live.")
    yield served
    done = httpx.post(f"{served.url}/chat/completions", json=request())
    assert done.status_code == 200, done.text
    assert done.json()["choices"][0]["message"]["content"] == "I live."


def refusal(served, body: bytes | dict, *, status: int = 400) -> dict[str, object]:
    """The protocol's error object."""
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    got = httpx.post(f"{served.url}/chat/completions", content=content, headers=JSON)
    assert got.status_code == status, got.text
    assert set(got.json()) == {"error"}
    error = got.json()["error"]
    assert set(error) == {"message", "type", "param", "code"}
    assert error["message"].count("\n") == 0
    assert error["type"] == ("invalid_request_error" if status < 500 else "server_error")
    return error


@pytest.mark.parametrize(
    ("body", "words"),
    [
        pytest.param(b"", "not JSON", id="nothing"),
        pytest.param(b'{"model": "tiny", "mess', "not JSON", id="cut off"),
        pytest.param(b"[]", "expected a JSON object", id="a list"),
        pytest.param(b'"tiny"', "expected a JSON object", id="a string"),
        pytest.param(b'{"model": "\xff"}', "not JSON", id="not UTF-8"),
        pytest.param(b'{"model": NaN}', "NaN is no JSON number", id="NaN"),
        pytest.param(b'{"model": "\\ud800"}', "surrogates", id="half a character"),
        pytest.param(b'{"model": ' + b"[" * 100_000, "not JSON", id="nested without end"),
        pytest.param(
            b'{"a": ' + b"[" * 70 + b"]" * 70 + b"}", "more than 64 deep", id="nested deep"
        ),
        pytest.param(b'{"model": 1' + b"0" * 5000 + b"}", "not JSON", id="an endless number"),
    ],
)
def test_a_body_that_is_no_request(refusing, body, words):
    assert words in refusal(refusing, body)["message"]


@pytest.mark.parametrize(
    ("body", "param", "words"),
    [
        pytest.param({}, "model", "missing", id="no model"),
        pytest.param(request(model=3), "model", "is 3, expected a string", id="model of a number"),
        pytest.param({"model": "tiny"}, "messages", "missing", id="no messages"),
        pytest.param(request() | {"messages": []}, "messages", "is empty", id="empty messages"),
        pytest.param(
            request() | {"messages": "hi"}, "messages", "expected a list", id="messages of text"
        ),
        pytest.param(request("hi"), "messages[0]", "expected an object", id="message of text"),
        pytest.param(request({"content": "hi"}), "messages[0].role", "missing", id="no role"),
        pytest.param(
            request({"role": "robot", "content": "hi"}), "messages[0].role",
            "expected one of system, developer, user", id="another role",
        ),
        pytest.param(
            request({"role": "user"}), "messages[0].content", "missing", id="no content"
        ),
        pytest.param(
            request({"role": "user", "content": 5}), "messages[0].content", "expected a list",
            id="content of a number",
        ),
        pytest.param(
            request(user("")), "messages[0].content", "says and shows nothing", id="empty content"
        ),
        pytest.param(
            request({"role": "user", "content": []}), "messages[0].content",
            "says and shows nothing", id="no parts",
        ),
        pytest.param(
            request({"role": "user", "content": ["hi"]}), "messages[0].content[0]",
            "expected an object", id="part of text",
        ),
        pytest.param(
            request(user("a", {"type": "video_url", "video_url": {"url": "x"}})),
            "messages[0].content[1].type", "pictures with their times", id="video",
        ),
        pytest.param(
            request({"role": "system", "content": [picture_part(PIXEL)]}, user("hi")),
            "messages[0].content[0].type", "shows nothing", id="picture of the system",
        ),
        pytest.param(
            request(user("hi"), {"role": "assistant"}, user("ho")), "messages[1].content",
            "says nothing and calls no tool", id="assistant without words",
        ),
        pytest.param(
            request(user("hi"), {"role": "assistant", "content": "Yes."}), "messages",
            "the last turn is the assistant's", id="nobody to answer",
        ),
        pytest.param(
            request(user("hi"), {"role": "system", "content": "Now."}), "messages",
            "expected system first", id="a late system",
        ),
        pytest.param(
            request({"role": "tool", "content": "dry"}), "messages", "cannot be told",
            id="a tool begins",
        ),
        pytest.param(
            request(user("a<|im_end|>b")), "messages", "control token '<|im_end|>'",
            id="control token",
        ),
        pytest.param(
            request(user("a<|im_", "end|>b")), "messages", "control token '<|im_end|>'",
            id="control token in two parts",
        ),
        pytest.param(
            request(user("<|vision_start|><|image_pad|><|vision_end|>")), "messages",
            "control token", id="a picture in words",
        ),
        pytest.param(
            request(user("What is <tool_response> for?")), "messages", "control token",
            id="a tag in words",
        ),
        pytest.param(
            called("dry"), "messages[1].tool_calls[0].function.arguments", "not JSON",
            id="arguments that are no JSON",
        ),
        pytest.param(
            called("[1]"), "messages[1].tool_calls[0].function.arguments", "no object",
            id="arguments that are a list",
        ),
        pytest.param(
            called({}), "messages[1].tool_calls[0].function.arguments", "expected a string",
            id="arguments that are an object",
        ),
        pytest.param(
            request(tools=[{"type": "web_search"}]), "tools[0].type", '"function"',
            id="another tool",
        ),
        pytest.param(
            request(tools=[{"type": "function", "function": {}}]), "tools[0].function.name",
            "missing", id="tool without a name",
        ),
        pytest.param(
            request(tools=[{"type": "function", "function": {"name": "a", "parameters": 3}}]),
            "tools[0].function.parameters", "JSON schema", id="tool with another schema",
        ),
        pytest.param(
            called('{"city": "\\ud800"}'), "messages[1].tool_calls[0].function.arguments",
            "surrogates", id="half a character in arguments",
        ),
        pytest.param(
            called('{"days": NaN}'), "messages[1].tool_calls[0].function.arguments",
            "NaN is no JSON number", id="NaN in arguments",
        ),
        pytest.param(
            called('{"a":' * 99 + "1" + "}" * 99), "messages[1].tool_calls[0].function.arguments",
            "more than 64 deep", id="deep arguments",
        ),
        pytest.param(
            request(user("Go."), {"role": "assistant", "content": ENDLESS_CALL}, user("And?")),
            "messages", "control token", id="a call in words, nested without end",
        ),
        pytest.param(request(max_tokens=0), "max_tokens", "at least 1", id="no tokens"),
        pytest.param(request(max_tokens=2.5), "max_tokens", "whole number", id="half a token"),
        pytest.param(request(max_tokens=True), "max_tokens", "whole number", id="true tokens"),
        pytest.param(request(stream="yes"), "stream", "true or false", id="stream of text"),
        pytest.param(
            request(stream_options={"include_usage": True}), "stream_options", "is for streams",
            id="options of no stream",
        ),
        pytest.param(request(logprobs=1), "logprobs", "true or false", id="logprobs of a number"),
    ],
)  # fmt: skip
def test_a_field_of_the_wrong_kind_is_named(refusing, body, param, words):
    error = refusal(refusing, body)
    assert words in error["message"]
    assert error["param"] == param


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("temperature", 0.7),
        ("temperature", "warm"),
        ("n", 2),
        ("n", True),
        ("best_of", 2),
        ("frequency_penalty", 0.1),
        ("presence_penalty", 1.5),
        ("repetition_penalty", 1.05),
        ("logit_bias", {"1": 5}),
        ("stop", "\n"),
        ("stop", ["END"]),
        ("response_format", {"type": "json_object"}),
        ("guided_json", {"type": "object"}),
        ("tool_choice", "required"),
        ("tool_choice", {"type": "function", "function": {"name": "weather"}}),
        ("functions", [{"name": "weather"}]),
        ("parallel_tool_calls", False),
        ("top_logprobs", 5),
        ("chat_template_kwargs", {"enable_thinking": False}),
        ("min_tokens", 5),
        ("reasoning_effort", "low"),
    ],
    ids=str,
)
def test_what_would_change_the_answer_is_refused_by_name(refusing, field, value):
    error = refusal(refusing, request(tools=[WEATHER_TOOL], **{field: value}))
    assert error["param"] == field
    assert f"'{field}' is " in error["message"]
    assert "expected" in error["message"]


def test_what_changes_nothing_is_taken(serve):
    harmless = {
        "temperature": 0.0, "n": 1, "top_p": 0.8, "top_k": 20, "seed": 1, "user": "me",
        "metadata": {"a": "b"}, "frequency_penalty": 0, "presence_penalty": None, "stop": [],
        "response_format": {"type": "text"}, "tool_choice": "auto", "logit_bias": {},
        "parallel_tool_calls": True, "store": False, "a field of next year": 5,
    }  # fmt: skip
    served = serve("Yes.")
    got = httpx.post(f"{served.url}/chat/completions", json=request(**harmless))
    assert got.status_code == 200, got.text


@pytest.mark.parametrize(
    ("url", "words"),
    [
        pytest.param(None, "missing", id="nothing"),
        pytest.param(5, "expected a string", id="a number"),
        pytest.param("http://localhost/a.png", "does not fetch pictures", id="http"),
        pytest.param("HTTPS://example.org/a.png", "does not fetch pictures", id="https"),
        pytest.param("file:///etc/passwd", "does not fetch pictures", id="file"),
        pytest.param("/etc/passwd", "expected data:image/png", id="a path"),
        pytest.param("data:text/plain;base64,aGk=", "expected data:image/png", id="text"),
        pytest.param("data:image/gif;base64,aGk=", "expected data:image/png", id="gif"),
        pytest.param("data:image/png,raw", "expected data:image/png", id="not base64"),
        pytest.param("data:image/png;base64,a*b=", "is not base64", id="bad base64"),
        pytest.param("data:image/png;base64,abc", "is not base64", id="base64 cut off"),
        pytest.param("data:image/png;base64,", "cannot be decoded", id="empty"),
        pytest.param("data:image/png;base64,aGVsbG8=", "cannot be decoded", id="no picture"),
        pytest.param(
            f"data:image/png;base64,{encoded(speckled())[:4000]}", "cannot be decoded",
            id="png cut off",
        ),
        pytest.param(
            f"data:image/jpeg;base64,{encoded(speckled(), 'JPEG')[:2000]}", "cannot be decoded",
            id="jpeg cut off",
        ),
        pytest.param(
            f"data:image/png;base64,{encoded(speckled(), 'GIF')}", "cannot be decoded",
            id="gif in disguise",
        ),
        pytest.param(
            data_url(Image.new("1", (8000, 5000))), "expected at most 32,000,000 in all",
            id="too many pixels",
        ),
        pytest.param(
            data_url(Image.new("1", (20_000, 20_000))), "cannot be decoded", id="a bomb"
        ),
        pytest.param(data_url(Image.new("I;16", (8, 8))), "eight bits", id="16 bits"),
        pytest.param(
            data_url(Image.new("CMYK", (8, 8)), "JPEG"), "eight bits", id="printer's colours"
        ),
    ],
)  # fmt: skip
def test_a_picture_that_cannot_be_used_is_named(refusing, url, words):
    error = refusal(refusing, shown(url))
    assert words in error["message"]
    assert error["param"] == "messages[0].content[0].image_url.url"


def test_pictures_are_counted_together(refusing):
    large = picture_part(data_url(Image.new("1", (6000, 5000))))
    error = refusal(refusing, request(user(large, large, large)))
    assert "more than 64,000,000 pixels together" in error["message"]


def test_a_picture_of_little_detail_is_not_made_small_for_the_client(refusing):
    part = {"type": "image_url", "image_url": {"url": PIXEL, "detail": "low"}}
    error = refusal(refusing, request(user(part)))
    assert error["param"] == "messages[0].content[0].image_url.detail"


def test_a_picture_that_the_model_cannot_take_is_refused_as_such(refusing):
    error = refusal(refusing, shown(data_url(speckled(402, 2))))
    assert "200" in error["message"]
    assert error["param"] == "messages"


def test_what_does_not_fit_the_context_is_refused_with_its_code(refusing):
    error = refusal(refusing, request(user("again and " * 600)))
    assert error["code"] == "context_length_exceeded"
    assert "of the cache's 1024" in error["message"]


def test_a_stream_that_cannot_begin_has_a_status(refusing):
    error = refusal(refusing, request(user("again and " * 600), stream=True))
    assert error["code"] == "context_length_exceeded"


def test_a_body_that_is_too_long_is_refused_and_heard(serve):
    served = serve(max_body_bytes=10_000)
    for length in (10_001, 39_000):
        error = refusal(served, b" " * length, status=413)
        assert error["code"] == "request_too_large"
        assert "10,000" in error["message"]


def test_another_model_is_refused_with_the_name_of_this_one(refusing):
    error = refusal(refusing, request(model="gpt-9"), status=404)
    assert error["code"] == "model_not_found"
    assert "'tiny'" in error["message"]
    assert httpx.get(f"{refusing.url}/models/gpt-9").status_code == 404


def test_another_content_type_is_refused(refusing):
    """A page in a browser may post text to this machine without asking; JSON it may not."""
    text = {"Content-Type": "text/plain"}
    got = httpx.post(f"{refusing.url}/chat/completions", content=b"{}", headers=text)
    assert got.status_code == 415
    assert "expected application/json" in got.json()["error"]["message"]


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [("GET", "/nowhere", 404), ("GET", "/chat/completions", 405), ("POST", "/models", 405)],
)
def test_other_paths_are_refused_in_the_same_shape(refusing, method, path, status):
    got = httpx.request(method, refusing.url + path)
    assert got.status_code == status
    assert "GET /v1/models" in got.json()["error"]["message"]


def test_without_the_key_nobody_is_served(serve):
    served = serve("Yes.", api_key="let me in")
    for wrong in ("let me out", "let me in!", "Größe"):
        headers = {"Authorization": f"Bearer {wrong}".encode()}
        got = httpx.get(f"{served.url}/models", headers=headers)
        assert got.status_code == 401
        assert "let me in" not in got.text
    assert httpx.get(f"{served.url}/models").status_code == 401
    basic = {"Authorization": "Basic let me in"}
    assert httpx.get(f"{served.url}/models", headers=basic).status_code == 401
    with served.client(api_key="wrong") as client, pytest.raises(openai.AuthenticationError):
        client.chat.completions.create(**request())
    with served.client(api_key="let me in") as client:
        assert client.chat.completions.create(**request()).choices[0].message.content == "Yes."


def test_health_needs_no_key(serve):
    served = serve(api_key="let me in")
    got = httpx.get(served.url.removesuffix("/v1") + "/health")
    assert (got.status_code, got.json()) == (200, {"status": "ok"})


def test_the_client_library_names_the_field(serve):
    served = serve()
    with served.client() as client, pytest.raises(openai.BadRequestError) as refused:
        client.chat.completions.create(**request(temperature=1))
    assert refused.value.param == "temperature"
