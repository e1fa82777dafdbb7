"""Fixtures for tests/model/test_wavlm.c: WavLM of every variant with random weights (biases and norms too),
and what transformers computes with them.

    python tests/oracle/wavlm.py [VARIANT...]

writes tests/fixtures/wavlm/VARIANT/{config.json, preprocessor_config.json, expected.safetensors} and, unless
the weights are committed as a file, tensors.txt: how to draw each tensor from the counter-based RNG."""

import json
import sys
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file
from transformers import WavLMConfig, WavLMModel

import philox

ROOT = Path(__file__).resolve().parents[1] / "fixtures" / "wavlm"
WEIGHT_KEY, WAVE_KEY, WAVE_PLACE = 20260, 7001, 0x5741
LENGTHS = [400, 401, 719, 720, 16000, 31999, 50013]
FULL_LENGTHS = [8000]

SMALL_CONV = dict(conv_dim=[24, 32, 24, 32, 24, 32, 40])
VARIANTS = {
    # name: (config, preprocessor do_normalize or None for no file, dtype of the weights, committed file?)
    "base": (dict(hidden_size=48, num_hidden_layers=3, num_attention_heads=4, intermediate_size=96, **SMALL_CONV),
             False, "F32", False),
    "large": (dict(hidden_size=64, num_hidden_layers=3, num_attention_heads=4, intermediate_size=112,
                   feat_extract_norm="layer", do_stable_layer_norm=True, **SMALL_CONV), None, "F32", False),
    # odd heads, an odd positional kernel, biased convolutions, other buckets
    "odd": (dict(hidden_size=54, num_hidden_layers=3, num_attention_heads=6, intermediate_size=75, conv_bias=True,
                 num_conv_pos_embeddings=31, num_conv_pos_embedding_groups=9, num_buckets=32,
                 max_bucket_distance=128, layer_norm_eps=1e-4, **SMALL_CONV), False, "BF16", False),
    # the demo's kind: few convolution channels; norms of both kinds mixed
    "tiny": (dict(hidden_size=64, num_hidden_layers=4, num_attention_heads=2, intermediate_size=128,
                  feat_extract_norm="layer", conv_bias=True, conv_dim=[16, 24, 32, 32, 32, 32, 32],
                  num_conv_pos_embeddings=32, num_conv_pos_embedding_groups=8), True, "F16", False),
    # weights in a file as task models have them, with the old spelling of weight norm
    "prefixed": (dict(hidden_size=32, num_hidden_layers=2, num_attention_heads=2, intermediate_size=48,
                      do_stable_layer_norm=True, conv_dim=[16] * 7, num_conv_pos_embeddings=16,
                      num_conv_pos_embedding_groups=4), True, "F16", True),
    # base and base-plus share this configuration
    "full_base": (dict(), False, "F16", False),
    "full_large": (dict(hidden_size=1024, num_hidden_layers=24, num_attention_heads=16, intermediate_size=4096,
                        feat_extract_norm="layer", do_stable_layer_norm=True), None, "F16", False),
}
TORCH_DTYPE = {"F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16}


def rule(name, shape):
    """(offset, scale) of a tensor's uniform numbers: lively, and of a size that keeps activations in range."""
    if "layer_norm.weight" in name or name.endswith("original0") or "gru_rel_pos_const" in name:
        return 1.0, 0.4
    if name.endswith("bias"):
        return 0.0, 0.3
    if "rel_attn_embed" in name:
        return 0.0, 1.5
    if name.endswith("original1"):
        return 0.0, 0.1
    if ".conv.weight" in name:
        return 0.0, 3.0 / (shape[1] * shape[2])**0.5
    if "masked_spec" in name:
        return 0.0, 1.0
    return 0.0, 1.7 / shape[-1]**0.5


def draw(model, dtype):
    lines = []
    for i, (name, p) in enumerate(model.state_dict().items()):
        offset, scale = rule(name, p.shape)
        scale = float(np.float32(scale))
        values = philox.signed(WEIGHT_KEY, p.numel(), philox.PLACE_INIT, i, offset, scale)
        p.copy_(torch.from_numpy(values).reshape(p.shape).to(TORCH_DTYPE[dtype]).float())
        lines.append(" ".join([name, dtype, repr(offset), repr(scale)] + [str(d) for d in p.shape]))
    return lines


def wave_of(length):
    """Noise with an offset, so that normalisation shows; length 8000 of the small variants is silence."""
    return philox.signed(WAVE_KEY, length, WAVE_PLACE, length, 0.05, 0.3)


def states_of(model, wave, normalize):
    if normalize:
        wave = ((wave.astype(np.float64) - wave.mean(dtype=np.float64)) /
                np.sqrt(wave.var(dtype=np.float64) + 1e-7)).astype(np.float32)
    with torch.no_grad():
        out = model(torch.from_numpy(wave)[None], output_hidden_states=True)
    states = [h[0] for h in out.hidden_states]
    states[-1] = out.last_hidden_state[0]  # the last of hidden_states is not normed in transformers 5's large
    return states


def save_prefixed(model, folder, dtype):
    old = {"parametrizations.weight.original0": "weight_g", "parametrizations.weight.original1": "weight_v"}
    tensors = {}
    for name, p in model.state_dict().items():
        for new, former in old.items():
            name = name.replace(new, former)
        tensors["wavlm." + name] = p.to(TORCH_DTYPE[dtype]).contiguous()
    tensors["classifier.weight"] = torch.zeros(4, 32)
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})


def write(variant):
    settings, normalize, dtype, committed = VARIANTS[variant]
    folder = ROOT / variant
    folder.mkdir(parents=True, exist_ok=True)
    config = WavLMConfig(**settings)
    model = WavLMModel(config).eval()
    lines = draw(model, dtype)
    config.architectures = ["WavLMModel"]
    config.save_pretrained(folder)
    if normalize is not None:
        (folder / "preprocessor_config.json").write_text(json.dumps({"do_normalize": normalize,
                                                                     "sampling_rate": 16000}) + "\n")
    if committed:
        save_prefixed(model, folder, dtype)
    else:
        (folder / "tensors.txt").write_text("\n".join(lines) + "\n")
    full = variant.startswith("full")
    on = normalize if normalize is not None else settings.get("feat_extract_norm") == "layer"
    expected = {}
    for length in (FULL_LENGTHS if full else LENGTHS + [8000]):
        wave = np.zeros(length, np.float32) if length == 8000 and not full else wave_of(length)
        for i, state in enumerate(states_of(model, wave, on)):
            step = 12 if full else 3 if len(state) > 60 else 1
            expected[f"{length}.{i}"] = state[::step].contiguous()
            print(variant, length, i, tuple(state.shape), float(state.norm() / state.numel()**0.5))
    save_file(expected, folder / "expected.safetensors")


if __name__ == "__main__":
    torch.set_num_threads(1)
    for variant in sys.argv[1:] or VARIANTS:
        write(variant)
