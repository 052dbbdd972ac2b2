# SPDX-License-Identifier: Apache-2.0
"""A decoder rounded for what rendered scenes bring about: its weights, its cache, or both.

Knows the reference's layers, scenes and files; no graph and no flavour: how a block gets its
scale is told. The decoder is walked layer by layer with all conversations at once: a layer's
inputs are seen while its weights are whole, then its weights are rounded
(`compensated_rounding.py`), and what the rounded layer says goes on to the next, which so makes up
for it too. The rounded layer's keys and values are what a cache in few bits has to hold
(`cache_ranges.py`). Memory holds one layer, the conversations' hidden states and the pictures;
codes wait on disk until a graph is saved.

Experts are not calibrated: each sees too few tokens of a few scenes.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from safetensors import safe_open
from torch import Tensor, nn

from ..image.positions import text_positions, text_rotary
from ..model_config import ModelConfig, load_model_config
from .agreement import TaughtQuestion, taught_questions
from .cache_ranges import CacheRanges
from .calibrated_weight import CalibratedWeight
from .checkpoint import EMBEDDING, HEAD
from .compensated_rounding import ScaleRule, compensated_codes, compensation, float_from_codes
from .reference_decoder import DecoderLayer, RMSNorm
from .reference_generation import VisualFeatures
from .stored_weights import Float32, StoredWeights
from .streamed_reference import StreamedReference
from .streamed_tensor import Progress

CODES = "calibration"  # of a directory that is being written: codes that no graph holds yet
SCENES = 16  # of the first seeds that are trained on: about a hundred questions
SCENES_FOR_CACHE = 4  # where weights are not rounded: largest values show sooner
LAYERS = "model.language_model.layers"
NORM = "model.language_model.norm"
TOWER_BYTES = 2560 * 1024**2  # of float32 weights: the largest tower stays for all pictures
# Linears that share their input; the first of each is watched.
SHARING = (
    ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"),
    ("self_attn.o_proj",),
    ("mlp.gate_proj", "mlp.up_proj"),
    ("mlp.down_proj",),
)


@dataclass(kw_only=True, slots=True)
class _Conversation:
    """One question and its answer on their way through the layers. `hidden` changes."""

    hidden: Tensor
    cos: Tensor
    sin: Tensor
    rows: Tensor
    visual: VisualFeatures
    answer_tokens: int

    def add_deepstack(self, layer: int) -> None:
        if layer < len(self.visual.deepstack_embeds):
            tap = self.visual.deepstack_embeds[layer]
            self.hidden[0, self.rows >= 0] += tap[self.rows[self.rows >= 0]]


@dataclass(frozen=True, kw_only=True, slots=True)
class Rounding:
    """How weights become codes of four bits.

    Attributes:
        directory: made, for the codes, as many bytes as there are weights; the caller's to remove.
        block_size: columns that share a scale.
        scale_rule: how a flavour gives a block its scale.
    """

    directory: Path
    block_size: int
    scale_rule: ScaleRule


@torch.no_grad()
def calibrate(
    checkpoint_dir: Path,
    weights: StoredWeights,
    *,
    rounding: Rounding | None,
    cache: CacheRanges | None = None,
    progress: Progress | None = None,
) -> Mapping[str, CalibratedWeight]:
    """Walk a decoder with the scenes' questions, once.

    Args:
        checkpoint_dir: its configs and tokenizer.
        weights: its tensors, checked.
        rounding: of every linear and the head; None leaves them whole.
        cache: is shown the keys and values of every layer.
        progress: called with a name, bytes of weights done (as float32) and bytes in all.

    Returns:
        what was rounded, by the names of a checkpoint's tensors.
    """
    config = load_model_config(checkpoint_dir)
    head = EMBEDDING if config.text.tie_word_embeddings else HEAD
    total = _bytes_of_linears(weights) + 4 * int(np.prod(weights.shape(head)))
    writer = None
    if rounding is not None:
        rounding.directory.mkdir()
        writer = _Writer(rounding=rounding, bytes_in_all=total, progress=progress)
    scenes = SCENES if writer is not None else SCENES_FOR_CACHE
    questions = list(taught_questions(checkpoint_dir, scenes=scenes, first_seed=0))
    conversations = list(_conversations(questions, weights, config))
    layers = config.text.num_hidden_layers
    for index in range(layers):
        with torch.device("meta"):
            layer = DecoderLayer(config.text, index)
        _load(layer, weights, f"{LAYERS}.{index}")
        if writer is not None:
            _round_linears(layer, f"{LAYERS}.{index}", _moments(layer, conversations), writer)
        for one in conversations:
            one.hidden = layer(one.hidden, one.cos, one.sin, None, cache)
            one.add_deepstack(index)
        if writer is None and progress is not None:
            progress("calibration", (index + 1) * total // layers, total)
    if writer is None:
        return {}
    factor = compensation(_head_moment(conversations, weights, config))
    for _ in writer.write(head, factor, weights.shape(head), weights.pieces(head)):
        pass
    return writer.written


def _bytes_of_linears(weights: StoredWeights) -> int:
    endings = tuple(f".{name}.weight" for group in SHARING for name in group)
    names = [name for name in weights.files if name.startswith(LAYERS) and name.endswith(endings)]
    return sum(4 * int(np.prod(weights.shape(name))) for name in names)


def _round_linears(
    layer: nn.Module, prefix: str, moments: dict[str, Float32], writer: _Writer
) -> None:
    """Those of a layer, which holds what they were rounded to afterwards."""
    for group in SHARING:
        if group[0] not in moments:
            continue  # experts
        factor = compensation(moments.pop(group[0]))
        for name in group:
            linear = layer.get_submodule(name)
            assert isinstance(linear, nn.Linear)
            whole = linear.weight.numpy()
            tensor = f"{prefix}.{name}.weight"
            rounded = list(writer.write(tensor, factor, whole.shape, iter([whole])))
            linear.weight.copy_(torch.from_numpy(np.concatenate(rounded)))


@dataclass(kw_only=True, slots=True)
class _Writer:
    """Rounds weights and writes their codes. `written` and `bytes_done` grow."""

    rounding: Rounding
    bytes_in_all: int
    progress: Progress | None
    bytes_done: int = 0
    written: dict[str, CalibratedWeight] = field(default_factory=dict)

    def write(
        self, name: str, factor: Float32, shape: tuple[int, ...], pieces: Iterator[Float32]
    ) -> Iterator[Float32]:
        """Yields what each piece was rounded to."""
        out_features, in_features = shape
        weight = CalibratedWeight(
            file=self.rounding.directory / f"{len(self.written)}.codes",
            shape=(out_features, in_features),
            block_size=self.rounding.block_size,
        )
        self.written[name] = weight
        with weight.file.open("wb") as codes_file, weight.scales_file.open("wb") as scales_file:
            for piece in pieces:
                codes, scales = compensated_codes(
                    piece,
                    factor,
                    block_size=self.rounding.block_size,
                    scale_rule=self.rounding.scale_rule,
                )
                codes_file.write(codes.data)
                scales_file.write(scales.data)
                self.bytes_done += piece.nbytes
                if self.progress is not None:
                    self.progress("calibration", self.bytes_done, self.bytes_in_all)
                yield float_from_codes(codes, scales, block_size=weight.block_size)


def _conversations(
    questions: list[TaughtQuestion], weights: StoredWeights, config: ModelConfig
) -> Iterator[_Conversation]:
    """Questions with their answers, before the first layer; a picture is encoded once."""
    reference = StreamedReference(weights, config, kept_bytes=TOWER_BYTES)
    seen: tuple[Any, VisualFeatures] | None = None
    for question in questions:
        patches = question.patches
        if seen is None or seen[0] is not patches:
            seen = patches, reference.encode(patches.pixel_values, patches.grid_thw)
        visual = seen[1]
        ids = np.concatenate([question.input_ids, question.answer_ids[:-1]])
        position_ids, _ = text_positions(ids, patches.grid_thw, config)
        cos, sin = (torch.from_numpy(x)[None] for x in text_rotary(position_ids, config.text))
        is_visual = torch.from_numpy(ids == config.image_token_id)
        rows = torch.where(is_visual, is_visual.cumsum(0) - 1, -1)
        hidden = _rows_of_table(ids, weights)[None]
        hidden[0, is_visual] = visual.image_embeds
        yield _Conversation(
            hidden=hidden,
            cos=cos,
            sin=sin,
            rows=rows,
            visual=visual,
            answer_tokens=len(question.answer_ids),
        )


def _moments(layer: nn.Module, conversations: list[_Conversation]) -> dict[str, Float32]:
    """Sums of `x xT` over all inputs of the linears that are watched."""
    sums: dict[str, Tensor] = {}

    def watch(name: str) -> Any:
        def add(_: nn.Module, inputs: tuple[Tensor, ...]) -> None:
            x = inputs[0].flatten(0, -2)
            if name not in sums:
                sums[name] = torch.zeros(x.shape[1], x.shape[1])
            sums[name].addmm_(x.T, x)

        return add

    modules = dict(layer.named_modules())
    watched = [group[0] for group in SHARING if group[0] in modules]
    hooks = [modules[name].register_forward_pre_hook(watch(name)) for name in watched]
    for one in conversations:
        layer(one.hidden, one.cos, one.sin, None, None)
    for hook in hooks:
        hook.remove()
    return {name: total.numpy() for name, total in sums.items()}


def _head_moment(
    conversations: list[_Conversation], weights: StoredWeights, config: ModelConfig
) -> Float32:
    """Of the rows that answers are read from."""
    with torch.device("meta"):
        norm = RMSNorm(config.text.hidden_size, config.text.rms_norm_eps)
    _load(norm, weights, NORM)
    total = torch.zeros(config.text.hidden_size, config.text.hidden_size)
    for one in conversations:
        x = norm(one.hidden[0, -one.answer_tokens :])
        total.addmm_(x.T, x)
    array: Float32 = total.numpy()
    return array


def _load(module: nn.Module, weights: StoredWeights, prefix: str) -> None:
    tensors: dict[str, Tensor] = {}
    for name, parameter in module.named_parameters():
        stored = torch.from_numpy(weights.array(f"{prefix}.{name}"))
        # Experts may lie the other way round.
        tensors[name] = stored if stored.shape == parameter.shape else stored.mT
    module.load_state_dict(tensors, assign=True)


def _rows_of_table(ids: npt.NDArray[np.int64], weights: StoredWeights) -> Tensor:
    """(T,) int64 to (T, D) float32."""
    distinct, places = np.unique(ids, return_inverse=True)
    with safe_open(weights.files[EMBEDDING], framework="pt") as file:
        table = file.get_slice(EMBEDDING)
        rows = torch.stack([table[int(token)].float() for token in distinct])
    return rows[torch.from_numpy(places)]
