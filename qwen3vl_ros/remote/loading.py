# SPDX-License-Identifier: Apache-2.0
"""A server becomes a model. The door of this room.

The only place that asks for a server's protocol; everything above sees `VisionLanguageModel`.
"""

from __future__ import annotations

from ..model.vision_language_model import VisionLanguageModel
from .remote_server import ChatProtocol, RemoteServer


def remote_model(server: RemoteServer) -> VisionLanguageModel:
    """The model on a server; the server is not asked yet.

    Raises:
        ConfigError: the environment's key cannot be one.
        MissingDependency: the protocol's library is not installed.
    """
    # Imported late: each library takes about a second, and either may be missing.
    if server.protocol is ChatProtocol.OPENAI:
        from .openai_model import OpenAIModel

        return OpenAIModel(server)
    from .anthropic_model import AnthropicModel

    return AnthropicModel(server)
