# SPDX-License-Identifier: Apache-2.0
"""A server's settings are checked at the door, and its key is seen by nobody but the server."""

from __future__ import annotations

import logging
import subprocess
import sys
import traceback

import pytest

from qwen3vl_ros.errors import ConfigError, MissingDependency, RemoteError
from qwen3vl_ros.language.chat_template import ChatStyle
from qwen3vl_ros.remote.loading import remote_model
from qwen3vl_ros.remote.remote_server import ChatProtocol, RemoteServer, api_key
from tests.remote.scripted_server import SOON, Reply, answer_of, stream_of

KEY = "sk-secret-0123456789"
URL = "http://localhost:8000/v1"


def refused(**settings) -> str:
    with pytest.raises(ConfigError) as caught:
        RemoteServer(**({"base_url": URL, "model": "tiny"} | settings))
    return str(caught.value)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"base_url": "localhost:8000"}, "expected http:// or https://"),
        ({"base_url": "ftp://localhost"}, "expected http:// or https://"),
        ({"base_url": "http://"}, "expected http:// or https://"),
        ({"base_url": "http://a:port/"}, "expected http:// or https://"),
        ({"model": " "}, "no name"),
        ({"timeout_s": 0.0}, "timeout_s is 0.0"),
        ({"timeout_s": float("nan")}, "timeout_s is nan"),
        ({"clip_fps": float("inf")}, "clip_fps inf"),
        ({"max_retries": -1}, "max_retries is -1"),
        ({"clip_max_stills": 0}, "clip_max_stills 0"),
        ({"max_tokens": 0}, "max_tokens 0"),
        ({"jpeg_quality": 96}, "jpeg_quality is 96"),
        ({"min_pixels": 9_000_000}, "9000000 to 2621440 pixels"),
        ({"min_pixels": 0}, "0 < min_pixels"),
        ({"min_pixels": 1, "max_pixels": 1023}, "room for one image token"),
        ({"min_pixels": 1_000_000}, "stills of a clip up to 786432"),
    ],
)
def test_settings_that_cannot_be_meant_are_refused(settings, words):
    assert words in refused(**settings)


@pytest.mark.parametrize(
    "settings",
    [
        {"base_url": f"https://{KEY}@host/v1"},
        {"base_url": f"https://me:{KEY}@host/v1"},
        {"base_url": f"https://host/v1?api_key={KEY}"},
        {"base_url": f"https://host/v1#{KEY}"},
        {"base_url": KEY},
        {"base_url": f"https://host:{KEY}/v1"},
        {"key_variable": KEY},
    ],
    ids=["user", "password", "query", "fragment", "all-of-it", "port", "variable"],
)
def test_a_key_in_the_settings_is_refused_and_not_repeated(settings):
    assert KEY not in refused(**settings)


def test_a_server_thinks_or_does_not():
    server = RemoteServer(base_url=URL, model="tiny", thinking=True)
    assert remote_model(server).style is server.style is ChatStyle.THINKING


@pytest.mark.parametrize("variable", [None, "MY_KEY"])
def test_the_key_is_sent_and_is_the_named_variables(server, protocol, ask, monkeypatch, variable):
    monkeypatch.setenv("OPENAI_API_KEY", "openais")
    monkeypatch.setenv("ANTHROPIC_API_KEY", "anthropics")
    monkeypatch.setenv("MY_KEY", KEY)
    server.play(answer_of(protocol))
    ask(key_variable=variable)
    headers = " ".join(server.asked[0].headers.values())
    sent = {name for name in ("openais", "anthropics", KEY) if name in headers}
    assert sent == {KEY if variable else f"{protocol.value}s"}


def test_where_no_key_is_set_none_is_sent_whatever_else_is_in_the_environment(
    server, protocol, ask, monkeypatch, tmp_path
):
    for name in ("OPENAI_API_KEY", "OPENAI_ADMIN_KEY", "ANTHROPIC_API_KEY"):
        monkeypatch.setenv(name, KEY)
    monkeypatch.setenv("ANTHROPIC_AUTH_TOKEN", KEY)
    monkeypatch.delenv("NOT_SET", raising=False)
    server.play(answer_of(protocol))
    ask(key_variable="NOT_SET")
    assert not {"authorization", "x-api-key"} & set(server.asked[0].headers)
    assert KEY not in str(server.asked[0])


@pytest.mark.parametrize("key", ["two words", "a\nb", "clé"], ids=["space", "line", "letter"])
def test_a_key_that_cannot_be_one_is_refused_and_not_repeated(monkeypatch, key):
    monkeypatch.setenv("OPENAI_API_KEY", key)
    with pytest.raises(ConfigError, match="the key in OPENAI_API_KEY") as caught:
        remote_model(RemoteServer(base_url=URL, model="tiny"))
    assert key not in str(caught.value)


def test_white_space_around_a_key_is_no_part_of_it(monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", f" {KEY}\n")
    assert api_key(RemoteServer(base_url=URL, model="tiny")) == KEY


REPLIES = {
    "answer": lambda protocol: answer_of(protocol),
    "stream": lambda protocol: stream_of(protocol, "Hi"),
    "repeats-the-key": lambda _: Reply(
        status=401, body={"error": {"message": f"Incorrect key: {KEY}", "code": KEY}}
    ),
    "fails-with-it": lambda _: Reply(status=500, body=f"<html>{KEY}", headers=SOON),
    "garbage-with-it": lambda _: Reply(body=f"{{{KEY}"),
    "page-with-it": lambda _: Reply(body=f"{KEY}<html>", content_type="text/html"),
}


@pytest.mark.parametrize("name", REPLIES)
def test_the_key_is_in_no_log_message_or_traceback(
    server, protocol, ask, monkeypatch, caplog, name
):
    monkeypatch.setenv("THE_KEY", KEY)
    server.play(REPLIES[name](protocol))
    told = ""
    with caplog.at_level(logging.DEBUG):
        try:
            ask(key_variable="THE_KEY", on_text=len if name == "stream" else None)
        except RemoteError as error:
            told = "".join(traceback.format_exception(error))
            assert ("***" in told) == (name != "garbage-with-it")  # of that only the place
    assert KEY in str(server.asked[0].headers)
    assert bool(told) == (name not in ("answer", "stream"))
    assert KEY not in told + caplog.text
    assert caplog.text  # the libraries were heard


def test_the_key_is_in_no_repr(monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    server = RemoteServer(base_url=URL, model="tiny")
    model = remote_model(server)
    assert KEY not in repr(server) + repr(model) + repr(vars(model))


@pytest.mark.parametrize("protocol", ChatProtocol, ids=lambda protocol: protocol.value)
def test_a_library_that_is_not_installed_is_named(monkeypatch, protocol):
    monkeypatch.setitem(sys.modules, protocol.value, None)
    monkeypatch.delitem(sys.modules, f"qwen3vl_ros.remote.{protocol.value}_model", raising=False)
    with pytest.raises(MissingDependency, match=rf"'{protocol.value}'.*pip install -e '\.\[rem"):
        remote_model(RemoteServer(base_url=URL, model="tiny", protocol=protocol))


def test_the_door_loads_neither_library():
    code = (
        "import sys, qwen3vl_ros.remote.loading; print({'openai', 'anthropic'} & {*sys.modules})"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert result.stdout.strip() == "set()", result.stderr
