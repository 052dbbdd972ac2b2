# SPDX-License-Identifier: Apache-2.0
"""llama.cpp by its own C interface, as `llama-cpp-python` hands it on.

    python -m benchmarks.with_llama_cpp MODEL.gguf MMPROJ.gguf

A picture is encoded by libmtmd and goes into the decoder as libmtmd's own helper puts it there.
Each length of cache has a context of its own, so that nothing has to be computed anew.
"""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from typing import Any

# GNU OpenMP reads this when it is loaded: waiting threads sleep.
import os  # isort: skip

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import llama_cpp.llama_cpp as llama
from llama_cpp import mtmd_cpp as mtmd

from .peer import answer, cores_to_use, picture_size

PIXELS = 32  # of an image token's side
TEXT_TOKEN = 100
ROOM = 64
BATCH = 2048  # a whole prompt in one pass


class LlamaCpp:
    """A `Peer`."""

    def __init__(self, model: str, projector: str) -> None:
        llama.llama_backend_init()
        self._files = (model, projector)
        self._model = llama.llama_model_load_from_file(
            model.encode(), llama.llama_model_default_params()
        )
        params = mtmd.mtmd_context_params_default()
        params.use_gpu, params.n_threads, params.warmup = False, cores_to_use(), False
        self._tower = mtmd.mtmd_init_from_file(projector.encode(), self._model, params)
        self._chunks: dict[int, Any] = {}
        self._contexts: dict[int, Any] = {}

    def facts(self) -> Mapping[str, object]:
        return {
            "versions": {"llama-cpp-python": version_or_source()},
            "weights": description(self._model),
            "tower": "as in its projector file",
            "system": llama.llama_print_system_info().decode().strip(),
            "threads": cores_to_use(),
            "OMP_WAIT_POLICY": os.environ["OMP_WAIT_POLICY"],
        }

    def encode(self, image_tokens: int) -> None:
        done = mtmd.mtmd_encode_chunk(self._tower, self._chunk(image_tokens))
        expect(done == 0, f"mtmd_encode_chunk gave {done}")

    def prefill(self, image_tokens: int, text_tokens: int) -> None:
        context = self._context(image_tokens + text_tokens)
        llama.llama_memory_clear(llama.llama_get_memory(context), False)
        before = text_tokens // 2
        self._append(context, [TEXT_TOKEN] * before)
        position = llama.llama_pos(before)
        # Whatever the tower encoded last: time does not depend on the numbers.
        embeds = mtmd.mtmd_get_output_embd(self._tower)
        done = mtmd.mtmd_helper_decode_image_chunk(
            self._tower,
            context,
            self._chunk(image_tokens),
            embeds,
            position,
            0,
            BATCH,
            ctypes.byref(position),
            mtmd.mtmd_helper_post_decode_callback(),
            None,
        )
        expect(done == 0, f"mtmd_helper_decode_image_chunk gave {done}")
        self._append(context, [TEXT_TOKEN] * (text_tokens - before))

    def fill(self, cached_tokens: int) -> None:
        context = self._context(cached_tokens)
        llama.llama_memory_clear(llama.llama_get_memory(context), False)
        for start in range(0, cached_tokens, BATCH):
            self._append(context, [TEXT_TOKEN] * min(BATCH, cached_tokens - start))

    def decode(self, cached_tokens: int) -> None:
        context = self._context(cached_tokens)
        self._append(context, [TEXT_TOKEN])
        llama.llama_memory_seq_rm(llama.llama_get_memory(context), 0, cached_tokens, -1)

    def _append(self, context: Any, tokens: Sequence[int]) -> None:
        array = (llama.llama_token * len(tokens))(*tokens)
        done = llama.llama_decode(context, llama.llama_batch_get_one(array, len(tokens)))
        expect(done == 0, f"llama_decode gave {done}")
        llama.llama_synchronize(context)
        llama.llama_get_logits_ith(context, -1)

    def _context(self, tokens: int) -> Any:
        if tokens not in self._contexts:
            params = llama.llama_context_default_params()
            params.n_ctx, params.n_batch, params.n_ubatch = tokens + ROOM, BATCH, BATCH
            params.n_threads = params.n_threads_batch = cores_to_use()
            self._contexts[tokens] = llama.llama_init_from_model(self._model, params)
            expect(self._contexts[tokens], "llama_init_from_model gave nothing")
        return self._contexts[tokens]

    def _chunk(self, image_tokens: int) -> Any:
        """A picture as libmtmd has it, cut into patches."""
        if image_tokens in self._chunks:
            return self._chunks[image_tokens]
        rows, columns = picture_size(image_tokens)
        width, height = columns * PIXELS, rows * PIXELS
        grey = (ctypes.c_uint8 * (width * height * 3))(*([127] * (width * height * 3)))
        bitmap = mtmd.mtmd_bitmap_init(width, height, grey)
        text = mtmd.mtmd_input_text()
        text.text = mtmd.mtmd_default_marker()
        text.add_special, text.parse_special = False, True
        chunks = mtmd.mtmd_input_chunks_init()
        bitmaps = (ctypes.c_void_p * 1)(bitmap)
        done = mtmd.mtmd_tokenize(self._tower, chunks, ctypes.byref(text), bitmaps, 1)
        expect(done == 0, f"mtmd_tokenize gave {done}")
        for index in range(mtmd.mtmd_input_chunks_size(chunks)):
            chunk = mtmd.mtmd_input_chunks_get(chunks, index)
            if mtmd.mtmd_input_chunk_get_tokens_image(chunk):
                tokens = mtmd.mtmd_input_chunk_get_n_tokens(chunk)
                expect(tokens == image_tokens, f"libmtmd makes {tokens} of {image_tokens} tokens")
                self._chunks[image_tokens] = chunk
        return self._chunks[image_tokens]


def expect(right: object, otherwise: str) -> None:
    """Raise unless `right`."""
    if not right:
        raise RuntimeError(otherwise)


def description(model: Any) -> str:
    """What llama.cpp says of a model: architecture, size, kind of weights."""
    buffer = ctypes.create_string_buffer(256)
    llama.llama_model_desc(model, buffer, len(buffer))
    return buffer.value.decode()


def version_or_source() -> str:
    """Of the Python package that brought llama.cpp."""
    import llama_cpp

    try:
        return version("llama-cpp-python")
    except ModuleNotFoundError:
        return f"{llama_cpp.__version__}, from its source"


if __name__ == "__main__":
    answer(LlamaCpp(sys.argv[1], sys.argv[2]))
