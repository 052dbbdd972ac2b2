# SPDX-License-Identifier: Apache-2.0
"""A real HTTP server on this machine that plays scripted replies and remembers what it was asked.

Knows no protocol beyond the shapes of its replies. It stands for vLLM and the others in what they
send; that they do send it is no more than read.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from qwen3vl_ros.remote.remote_server import ChatProtocol

SOON = {"retry-after-ms": "1"}  # both libraries wait as long as the server says


@dataclass(frozen=True, kw_only=True)
class Reply:
    """What the server sends once.

    Attributes:
        body: JSON, or text as it stands.
        events: instead of a body, streamed as server-sent events; text goes out as it stands.
        delay_s: before the first byte.
        pause_s: before each event but the first.
    """

    status: int = 200
    body: object = None
    events: Sequence[object] | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    content_type: str = "application/json"
    delay_s: float = 0.0
    pause_s: float = 0.0


@dataclass(frozen=True, kw_only=True)
class Asked:
    """One request."""

    path: str
    headers: Mapping[str, str]
    body: dict


class ScriptedServer:
    """Plays its replies in order; the last one again and again."""

    def __init__(self) -> None:
        self.asked: list[Asked] = []
        self.models: object = None
        self.replies: list[Reply] = []
        self.url = ""

    def play(self, *replies: Reply) -> None:
        self.replies = list(replies)

    def next_reply(self) -> Reply:
        return self.replies.pop(0) if len(self.replies) > 1 else self.replies[0]


@contextmanager
def running_server() -> Iterator[ScriptedServer]:
    scripted = ScriptedServer()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self):
            body = json.loads(self.rfile.read(int(self.headers["content-length"])))
            heard = {name.lower(): value for name, value in self.headers.items()}
            scripted.asked.append(Asked(path=self.path, headers=heard, body=body))
            self.send(scripted.next_reply())

        def do_GET(self):
            there = scripted.models is not None and self.path.endswith("/models")
            self.send(Reply(status=200 if there else 404, body=scripted.models or {}))

        def send(self, reply):
            time.sleep(reply.delay_s)
            streams = reply.events is not None
            self.send_response(reply.status)
            kind = "text/event-stream" if streams else reply.content_type
            for name, value in {"content-type": kind, **reply.headers}.items():
                self.send_header(name, value)
            self.end_headers()
            try:
                for number, piece in enumerate(reply.events if streams else [reply.body]):
                    time.sleep(reply.pause_s if number else 0.0)
                    self.wfile.write(written(piece, event=streams))
                    self.wfile.flush()
            except OSError:
                pass  # whoever asked has gone

        def log_message(self, *args):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    scripted.url = f"http://127.0.0.1:{server.server_port}/v1"
    try:
        yield scripted
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def written(piece: object, *, event: bool) -> bytes:
    if not event:
        return piece.encode() if isinstance(piece, str) else json.dumps(piece).encode()
    if isinstance(piece, str):
        return f"data: {piece}\n\n".encode()
    kind = f"event: {piece['type']}\n" if "type" in piece else ""  # the Anthropic protocol's
    return f"{kind}data: {json.dumps(piece)}\n\n".encode()


def openai_reply(content: object = "Hi", *, finish: str | None = "stop", **more) -> Reply:
    """An answer in the OpenAI protocol; `logprobs` is of the choice, the rest of the message."""
    choice = {
        "index": 0,
        "finish_reason": finish,
        "logprobs": more.pop("logprobs", None),
        "message": {"role": "assistant", "content": content, **more},
    }
    usage = {"prompt_tokens": 20, "completion_tokens": 3, "total_tokens": 23}
    return Reply(
        body={"id": "1", "object": "chat.completion", "choices": [choice], "usage": usage}
    )


def anthropic_reply(*blocks: dict, stop: str | None = "end_turn") -> Reply:
    """An answer in the Anthropic protocol."""
    usage = {"input_tokens": 20, "output_tokens": 3}
    content = blocks or ({"type": "text", "text": "Hi"},)
    return Reply(
        body={
            "id": "1",
            "type": "message",
            "role": "assistant",
            "model": "tiny",
            "content": list(content),
            "stop_reason": stop,
            "usage": usage,
        }
    )


def answer_of(protocol: ChatProtocol, words: str = "Hi") -> Reply:
    if protocol is ChatProtocol.OPENAI:
        return openai_reply(words)
    return anthropic_reply({"type": "text", "text": words})


def stream_of(protocol: ChatProtocol, *words: str, **timing: float) -> Reply:
    """The same, streamed."""
    if protocol is ChatProtocol.OPENAI:
        deltas = [{"choices": [{"index": 0, "delta": {"content": piece}}]} for piece in words]
        end = {"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]}
        usage = {"choices": [], "usage": {"prompt_tokens": 20, "completion_tokens": 3}}
        return Reply(events=[*deltas, end, usage, "[DONE]"], **timing)
    message = {**anthropic_reply().body, "content": [], "stop_reason": None}
    block = {"type": "content_block_start", "index": 0}
    return Reply(
        events=[
            {"type": "message_start", "message": message},
            {**block, "content_block": {"type": "text", "text": ""}},
            *(
                {
                    "type": "content_block_delta",
                    "index": 0,
                    "delta": {"type": "text_delta", "text": piece},
                }
                for piece in words
            ),
            {"type": "content_block_stop", "index": 0},
            {
                "type": "message_delta",
                "delta": {"stop_reason": "end_turn"},
                "usage": {"output_tokens": 3},
            },
            {"type": "message_stop"},
        ],
        **timing,
    )
