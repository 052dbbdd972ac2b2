# SPDX-License-Identifier: Apache-2.0
"""A node that asks a model server: answers, failures told per picture, and recovery."""

from __future__ import annotations

import json
import math
import socket
from collections.abc import Iterator

import pytest
from action_msgs.msg import GoalStatus

from qwen3vl_ros.action import Ask
from qwen3vl_ros.errors import ConfigError
from qwen3vl_ros.msg import InferenceStatus
from qwen3vl_ros.msg import Query as QueryMessage
from qwen3vl_ros.ros.parameters import NodeParameters
from tests.remote.scripted_server import (
    SOON,
    Reply,
    ScriptedServer,
    anthropic_reply,
    openai_reply,
    running_server,
)

OK, ERROR = b"\x00", b"\x02"
ONE_MUG = '```json\n[\n\t{"bbox_2d": [100, 200, 300, 400], "label": "mug"}\n]\n```'
KEY = "sk-not-a-real-key"


@pytest.fixture
def server(monkeypatch) -> Iterator[ScriptedServer]:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    monkeypatch.delenv("ANTHROPIC_API_KEY", raising=False)
    for library in ("openai", "anthropic"):
        module = pytest.importorskip(f"{library}._base_client")
        monkeypatch.setattr(module, "INITIAL_RETRY_DELAY", 0.001)
    with running_server() as running:
        yield running


def on_server(url: str, **more) -> dict:
    # The model's own boxes would be a second question to the scripted server.
    return {"server_url": url, "server_model": "tiny", "model_boxes": False, "load": None, **more}


def test_a_server_that_counts_nonsense_does_not_end_the_node(world, server):
    reply = openai_reply(ONE_MUG)
    reply.body["usage"] = {"prompt_tokens": 10**30, "completion_tokens": -1}
    server.play(reply)
    world.start(**on_server(server.url))
    status = world.spin_through_a_picture()
    assert status.outcome == InferenceStatus.OK, status.message
    assert (status.prompt_tokens, status.answer_tokens) == (0, 0), "as of one that does not tell"


def test_a_server_answers_the_standing_question_and_scores_it_does_not_give_are_not_numbers(
    world, server, monkeypatch
):
    monkeypatch.setenv("MY_KEY", KEY)
    server.play(openai_reply(ONE_MUG))
    world.start(**on_server(server.url, server_key_env="MY_KEY"))
    stamp_ns = world.send()
    status = world.status_of(stamp_ns)
    assert status.outcome == InferenceStatus.OK, status.message
    ((found,),) = [m.detections for m in world.at("~/detections_2d", stamp_ns)]
    hypothesis = found.results[0].hypothesis
    assert hypothesis.class_id == "mug"
    assert math.isnan(hypothesis.score)
    # 100 to 300 thousandths of a picture 64 pixels wide.
    assert (found.bbox.center.position.x, found.bbox.size_x) == pytest.approx((12.8, 12.8))
    (asked,) = server.asked
    assert (asked.path, asked.body["model"]) == ("/v1/chat/completions", "tiny")
    assert asked.headers["authorization"] == f"Bearer {KEY}"
    shown = world.diagnostic("engine", OK)
    told = {
        "server_url": server.url,
        "server_model": "tiny",
        "golden_check": "none: the model is on a server",
    }
    assert told.items() <= {value.key: value.value for value in shown.values}.items()
    assert KEY not in str(world.got["/diagnostics"])


def test_a_server_of_the_other_protocol_answers_a_goal_of_ask(world, server, asker):
    server.play(anthropic_reply({"type": "text", "text": "A mug."}))
    world.start(
        **on_server(server.url, server_protocol="anthropic", server_picture_format="jpeg"),
        categories=None,
    )
    asking = asker(Ask)
    handle = asking.ask(QueryMessage(task="ask", text="What is it?"))
    world.send()
    status, result = asking.result(handle)
    assert (status, result.words) == (GoalStatus.STATUS_SUCCEEDED, "A mug."), result.message
    (asked,) = server.asked
    assert asked.path == "/v1/messages"
    assert "image/jpeg" in json.dumps(asked.body)


def test_a_server_that_fails_is_an_error_for_each_picture_until_it_answers_again(
    world, server, capfd
):
    server.play(Reply(status=503, body={"error": {"message": "loading"}}, headers=SOON))
    world.start(**on_server(server.url))
    stamp_ns = world.send()
    status = world.status_of(stamp_ns)
    assert status.outcome == InferenceStatus.ENGINE_FAILED
    assert "503" in status.message
    assert "loading" in status.message
    assert world.at("~/detections_2d", stamp_ns) == []
    world.diagnostic("inference", ERROR, "loading")
    server.play(openai_reply(ONE_MUG))
    assert world.spin_through_a_picture().outcome == InferenceStatus.OK
    world.diagnostic("inference", OK)
    assert capfd.readouterr().err.count("[ERROR]") == 1


def test_a_node_whose_server_is_not_there_yet_is_active_and_says_so(world, server):
    """Nobody would configure it anew once the server is up."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        nowhere = f"http://127.0.0.1:{probe.getsockname()[1]}/v1"
    node = world.start(**on_server(nowhere))
    assert node.is_active
    status = world.spin_through_a_picture()
    assert status.outcome == InferenceStatus.ENGINE_FAILED
    assert nowhere in status.message
    world.diagnostic("inference", ERROR, "is it running, and is this its address?")


def test_nonsense_of_a_server_is_not_nothing_there(world, server):
    server.play(openai_reply("I see a lot."))
    world.start(**on_server(server.url))
    stamp_ns = world.send()
    assert world.status_of(stamp_ns).outcome == InferenceStatus.UNREADABLE
    assert world.at("~/detections_2d", stamp_ns) == []


def test_a_key_that_cannot_be_one_fails_configuring_without_being_repeated(
    world, server, monkeypatch, capfd
):
    monkeypatch.setenv("MY_KEY", "two words")
    node = world.start(**on_server(server.url, server_key_env="MY_KEY"))
    assert not node.is_active
    world.diagnostic("engine", ERROR, "MY_KEY")
    assert "two words" not in capfd.readouterr().err


@pytest.mark.parametrize(
    ("given", "words"),
    [
        pytest.param({"server_url": "http://here/v1"}, "model has no name", id="no model"),
        pytest.param({"server_model": "tiny"}, "server_url empty", id="no address"),
        pytest.param(
            {"server_url": "here:8000", "server_model": "tiny"}, "expected http://", id="no URL"
        ),
        pytest.param(
            {"server_url": "http://here", "server_model": "tiny", "engine_dir": "there"},
            "expected one of them",
            id="an engine, too",
        ),
        pytest.param(
            {"server_url": "http://here", "server_model": "t", "server_protocol": "grpc"},
            "one of openai, anthropic",
            id="protocol",
        ),
        pytest.param(
            {"server_url": "http://here", "server_model": "t", "server_key_env": KEY},
            "not the name of an environment variable",
            id="the key itself",
        ),
    ],
)
def test_a_server_named_wrongly_is_refused_at_the_start(given, words):
    with pytest.raises(ConfigError, match=words) as refused:
        NodeParameters(**given)
    assert KEY not in str(refused.value)
