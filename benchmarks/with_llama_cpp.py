# SPDX-License-Identifier: Apache-2.0
"""llama.cpp by its own C interface, as `llama-cpp-py-sync` hands it on.

    python -m benchmarks.with_llama_cpp MODEL.gguf MMPROJ.gguf
    python -m benchmarks.with_llama_cpp --quantise MODEL-bf16.gguf MODEL-q4_0.gguf

A picture is encoded by libmtmd and goes into the decoder as libmtmd's own helper puts it there.
Each length of cache has a context of its own, so that nothing has to be computed anew.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from importlib.metadata import version
from typing import Any

from .peer import answer, cores_to_use, picture_size

# GNU OpenMP reads this when it is loaded: waiting threads sleep.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

from llama_cpp_py_sync import __version__ as release
from llama_cpp_py_sync._cffi_bindings import get_ffi, get_lib, get_mtmd_lib

PIXELS = 32  # of an image token's side
TEXT_TOKEN = 100
ROOM = 64
BATCH = 2048  # a whole prompt in one pass


class LlamaCpp:
    """A `Peer`."""

    def __init__(self, model: str, projector: str) -> None:
        self._ffi, self._lib, self._mtmd = get_ffi(), get_lib(), get_mtmd_lib()
        self._lib.llama_backend_init()
        self._model = self._lib.llama_model_load_from_file(
            model.encode(), self._lib.llama_model_default_params()
        )
        params = self._mtmd.mtmd_context_params_default()
        params.use_gpu, params.n_threads, params.warmup = False, cores_to_use(), False
        self._tower = self._mtmd.mtmd_init_from_file(projector.encode(), self._model, params)
        self._chunks: dict[int, Any] = {}
        self._kept: list[Any] = []  # what C points to
        self._contexts: dict[int, Any] = {}

    def facts(self) -> Mapping[str, object]:
        text = self._ffi.new("char[256]")
        self._lib.llama_model_desc(self._model, text, 256)
        system = self._lib.llama_print_system_info()
        return {
            "versions": {"llama-cpp-py-sync": version("llama-cpp-py-sync"), "release": release},
            "weights": self._ffi.string(text).decode(),
            "tower": "float16, its arithmetic as ggml chooses",
            "system": self._ffi.string(system).decode().strip(),
            "threads": cores_to_use(),
            "OMP_WAIT_POLICY": os.environ["OMP_WAIT_POLICY"],
        }

    def encode(self, image_tokens: int) -> None:
        done = self._mtmd.mtmd_encode_chunk(self._tower, self._chunk(image_tokens))
        expect(done == 0, f"mtmd_encode_chunk gave {done}")

    def prefill(self, image_tokens: int, text_tokens: int) -> None:
        context = self._context(image_tokens + text_tokens)
        self._clear(context)
        before = text_tokens // 2
        self._append(context, before)
        position = self._ffi.new("llama_pos *", before)
        # Whatever the tower encoded last: time does not depend on the numbers.
        done = self._mtmd.mtmd_helper_decode_image_chunk(
            self._tower,
            context,
            self._chunk(image_tokens),
            self._mtmd.mtmd_get_output_embd(self._tower),
            before,
            0,
            BATCH,
            position,
            self._ffi.NULL,
            self._ffi.NULL,
        )
        expect(done == 0, f"mtmd_helper_decode_image_chunk gave {done}")
        self._append(context, text_tokens - before)

    def fill(self, cached_tokens: int) -> None:
        context = self._context(cached_tokens)
        self._clear(context)
        for start in range(0, cached_tokens, BATCH):
            self._append(context, min(BATCH, cached_tokens - start))

    def decode(self, cached_tokens: int, passes: int) -> None:
        context = self._context(cached_tokens)
        memory = self._lib.llama_get_memory(context)
        for _ in range(passes):
            self._append(context, 1)
            self._lib.llama_memory_seq_rm(memory, 0, cached_tokens, -1)

    def _clear(self, context: Any) -> None:
        self._lib.llama_memory_clear(self._lib.llama_get_memory(context), False)

    def _append(self, context: Any, tokens: int) -> None:
        ids = self._ffi.new("llama_token[]", [TEXT_TOKEN] * tokens)
        done = self._lib.llama_decode(context, self._lib.llama_batch_get_one(ids, tokens))
        expect(done == 0, f"llama_decode gave {done}")
        self._lib.llama_synchronize(context)
        expect(self._lib.llama_get_logits_ith(context, -1) != self._ffi.NULL, "no logits")

    def _context(self, tokens: int) -> Any:
        if tokens not in self._contexts:
            params = self._lib.llama_context_default_params()
            params.n_ctx, params.n_batch, params.n_ubatch = tokens + ROOM, BATCH, BATCH
            params.n_threads = params.n_threads_batch = cores_to_use()
            context = self._lib.llama_init_from_model(self._model, params)
            expect(context != self._ffi.NULL, "llama_init_from_model gave nothing")
            self._contexts[tokens] = context
        return self._contexts[tokens]

    def _chunk(self, image_tokens: int) -> Any:
        """A picture as libmtmd has it, cut into patches."""
        if image_tokens in self._chunks:
            return self._chunks[image_tokens]
        rows, columns = picture_size(image_tokens)
        width, height = columns * PIXELS, rows * PIXELS
        grey = self._ffi.new("unsigned char[]", bytes([127]) * (width * height * 3))
        bitmap = self._mtmd.mtmd_bitmap_init(width, height, grey)
        marker = self._mtmd.mtmd_default_marker()
        text = self._ffi.new("mtmd_input_text *")
        text.text, text.text_len = marker, len(self._ffi.string(marker))
        text.add_special, text.parse_special = False, True
        chunks = self._mtmd.mtmd_input_chunks_init()
        bitmaps = self._ffi.new("mtmd_bitmap *[]", [bitmap])
        done = self._mtmd.mtmd_tokenize(self._tower, chunks, text, bitmaps, 1)
        expect(done == 0, f"mtmd_tokenize gave {done}")
        self._kept += [grey, text, bitmaps, chunks]
        for index in range(self._mtmd.mtmd_input_chunks_size(chunks)):
            chunk = self._mtmd.mtmd_input_chunks_get(chunks, index)
            if self._mtmd.mtmd_input_chunk_get_tokens_image(chunk) != self._ffi.NULL:
                tokens = self._mtmd.mtmd_input_chunk_get_n_tokens(chunk)
                expect(tokens == image_tokens, f"libmtmd makes {tokens} of {image_tokens} tokens")
                self._chunks[image_tokens] = chunk
        return self._chunks[image_tokens]


def expect(right: bool, otherwise: str) -> None:
    """Raise unless `right`."""
    if not right:
        raise RuntimeError(otherwise)


def quantise(whole: str, rounded: str) -> None:
    """A model in bfloat16 becomes one in Q4_0: four bits, a float16 for each 32 of them."""
    lib = get_lib()
    params = lib.llama_model_quantize_default_params()
    params.ftype, params.nthread = lib.LLAMA_FTYPE_MOSTLY_Q4_0, cores_to_use()
    done = lib.llama_model_quantize(whole.encode(), rounded.encode(), get_ffi().addressof(params))
    expect(done == 0, f"llama_model_quantize gave {done}")


if __name__ == "__main__":
    if sys.argv[1] == "--quantise":
        quantise(*sys.argv[2:])
    else:
        answer(LlamaCpp(*sys.argv[1:]))
