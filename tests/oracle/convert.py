#!/usr/bin/env python3
"""Makes tests/fixtures/convert: PyTorch checkpoints as torch.save writes them, beside the tensors that they hold.

    tests/oracle/convert.py                       writes the fixtures
    tests/oracle/convert.py --check build/semollm converts them and loads the results in transformers
"""
import argparse
import collections
import json
import pathlib
import shutil
import subprocess
import tempfile

import torch
from safetensors.torch import load_file, save_file

HERE = pathlib.Path(__file__).resolve().parent.parent / "fixtures" / "convert"


def write_json(path, value):
    path.write_text(json.dumps(value, indent=2) + "\n")


def plain_state():
    """Every type, stride and sharing that a state dict may have; values are random, so a mix-up shows."""
    shared = torch.randn(6, 8)
    base = torch.randn(5, 7)
    state = collections.OrderedDict()
    state["embed.weight"] = shared
    state["head.weight"] = shared  # tied
    state["view.rows"] = shared[2:5]  # an offset into a shared storage
    state["view.cols"] = shared[:, 1:4]  # strided
    state["transposed"] = base.t()
    state["permuted"] = torch.randn(2, 3, 4).permute(2, 0, 1)
    state["stepped"] = torch.arange(20.0)[3::4]
    state["expanded"] = torch.tensor([1.5, -2.5]).expand(3, 2)
    state["channels_last"] = torch.randn(2, 3, 4, 5).to(memory_format=torch.channels_last)
    state["half"] = torch.randn(9).half()
    state["brain.t"] = torch.randn(3, 5).bfloat16().t()
    state["long"] = torch.tensor([[-(2**40), 7]])
    state["int"] = torch.tensor([-1, 2**31 - 1], dtype=torch.int32)
    state["bytes"] = torch.tensor([0, 255], dtype=torch.uint8)
    state["double"] = torch.tensor([1e300])
    state["scalar"] = torch.tensor(3.25)
    state["empty"] = torch.zeros(0, 4)
    state["name.with.é"] = torch.ones(1)
    state["parameter"] = torch.nn.Parameter(torch.randn(4))
    state["one.odd_stride"] = torch.randn(1, 3).as_strided((1, 3), (1 << 40, 1))
    return state


def norm_module(parametrized):
    conv = torch.nn.Conv1d(4, 4, 6, groups=2)
    if parametrized:
        return torch.nn.utils.parametrizations.weight_norm(conv, dim=2)
    return torch.nn.utils.weight_norm(conv, dim=2)


def folder(name):
    path = HERE / name
    shutil.rmtree(path, ignore_errors=True)
    path.mkdir(parents=True)
    return path


def truth(path, state):
    save_file({k: v.detach().contiguous().clone() for k, v in state.items()}, path)


def single():
    path = folder("single")
    state = plain_state()
    for name, parametrized in (("old", False), ("new", True)):
        for key, value in norm_module(parametrized).state_dict().items():
            state[f"{name}.{key}"] = value
    state._metadata = collections.OrderedDict({"": {"version": 1}})  # as Module.state_dict() carries
    torch.save(state, path / "pytorch_model.bin")
    write_json(path / "config.json", {"model_type": "llama"})
    write_json(path / "tokenizer.json", {"version": "1.0"})
    (path / "merges.txt").write_text("a b\n")
    (path / "README.md").write_text("not copied\n")
    truth(HERE / "single.safetensors", state)
    for protocol in (3, 4, 5):
        torch.save({"state_dict": dict(state)}, path / f"protocol{protocol}.pt", pickle_protocol=protocol)


def sharded():
    path = folder("sharded")
    first = {"a.weight": torch.randn(4, 3), "c.weight": torch.randn(2)}
    second = {"b.weight": torch.randn(5).half()}
    torch.save(first, path / "pytorch_model-00001-of-00002.bin")
    torch.save(second, path / "pytorch_model-00002-of-00002.bin")
    where = {k: "pytorch_model-00001-of-00002.bin" for k in first}
    where |= {k: "pytorch_model-00002-of-00002.bin" for k in second}
    size = sum(t.numel() * t.element_size() for t in (first | second).values())
    write_json(path / "pytorch_model.bin.index.json", {"metadata": {"total_size": size}, "weight_map": where})
    write_json(path / "config.json", {"model_type": "llama"})
    truth(HERE / "sharded.safetensors", first | second)


# transformers' convert_wavlm_original_pytorch_checkpoint_to_pytorch.py, the other way round
LAYER = {
    "attention.k_proj": "self_attn.k_proj",
    "attention.v_proj": "self_attn.v_proj",
    "attention.q_proj": "self_attn.q_proj",
    "attention.out_proj": "self_attn.out_proj",
    "attention.gru_rel_pos_linear": "self_attn.grep_linear",
    "attention.gru_rel_pos_const": "self_attn.grep_a",
    "attention.rel_attn_embed": "self_attn.relative_attention_bias",
    "layer_norm": "self_attn_layer_norm",
    "final_layer_norm": "final_layer_norm",
    "feed_forward.intermediate_dense": "fc1",
    "feed_forward.output_dense": "fc2",
}


def microsoft_name(name, layer_norm):
    parts = name.split(".")
    if name.startswith("encoder.layers."):
        inner = ".".join(parts[3:])
        for ours, theirs in LAYER.items():
            if inner == ours or inner.startswith(ours + "."):
                return ".".join(parts[:3]) + "." + theirs + inner[len(ours):]
    if name.startswith("feature_extractor.conv_layers."):
        inner = {"conv": "0", "layer_norm": "2.1" if layer_norm else "2"}[parts[3]]
        return ".".join(parts[:3] + [inner] + parts[4:])
    for ours, theirs in (("feature_projection.projection", "post_extract_proj"), ("masked_spec_embed", "mask_emb"),
                         ("feature_projection.layer_norm", "layer_norm"),
                         ("encoder.pos_conv_embed.conv", "encoder.pos_conv.0")):
        if name.startswith(ours):
            return theirs + name[len(ours):]
    assert name.startswith("encoder.layer_norm."), name
    return name


def wavlm_config(large):
    from transformers import WavLMConfig

    return WavLMConfig(
        hidden_size=32, num_hidden_layers=2, num_attention_heads=2, intermediate_size=48, conv_dim=(16,) * 7,
        num_conv_pos_embeddings=16, num_conv_pos_embedding_groups=4, num_buckets=32, max_bucket_distance=80,
        feat_extract_norm="layer" if large else "group", do_stable_layer_norm=large, layerdrop=0.0)


def wavlm_model(large):
    from transformers import WavLMModel

    model = WavLMModel(wavlm_config(large)).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(torch.randn_like(parameter) * 0.1 + 0.05)  # default biases and norms hide errors
    return model


def wavlm(large):
    """Weights and cfg in Microsoft's terms; cfg's keys are those of the published files."""
    model = wavlm_model(large)
    state = collections.OrderedDict()
    for name, value in model.state_dict().items():
        name = name.replace("parametrizations.weight.original0", "weight_g")
        state[name.replace("parametrizations.weight.original1", "weight_v")] = value
    name = "wavlm-large" if large else "wavlm-base"
    truth(HERE / f"{name}.safetensors", state)
    cfg = {
        "extractor_mode": "layer_norm" if large else "default", "encoder_layers": 2, "encoder_embed_dim": 32,
        "encoder_ffn_embed_dim": 48, "encoder_attention_heads": 2, "activation_fn": "gelu",
        "layer_norm_first": large, "conv_feature_layers": "[(16,10,5)] + [(16,3,2)] * 4 + [(16,2,2)] * 2",
        "conv_bias": False, "feature_grad_mult": 1.0, "normalize": large, "dropout": 0.1, "attention_dropout": 0.1,
        "activation_dropout": 0.0, "encoder_layerdrop": 0.0, "dropout_input": 0.0, "dropout_features": 0.0,
        "mask_length": 10, "mask_prob": 0.65, "mask_selection": "static", "mask_other": 0.0, "conv_pos": 16,
        "conv_pos_groups": 4, "relative_position_embedding": True, "num_buckets": 32, "max_distance": 80,
        "gru_rel_pos": True,
    }
    theirs = collections.OrderedDict((microsoft_name(k, large), v) for k, v in state.items())
    torch.save({"cfg": cfg, "model": theirs}, HERE / f"{name}.pt")


def old_format():
    torch.save({"a": torch.ones(2)}, HERE / "before-1.6.pt", _use_new_zipfile_serialization=False)


def check(semollm):
    """Converted folders hold exactly the truth, and transformers finds every tensor of a WavLM in them."""
    from transformers import AutoFeatureExtractor, WavLMModel

    with tempfile.TemporaryDirectory() as scratch:
        for name, source in (("single", "single"), ("sharded", "sharded"), ("wavlm-base", "wavlm-base.pt"),
                             ("wavlm-large", "wavlm-large.pt")):
            out = pathlib.Path(scratch) / name
            subprocess.run([semollm, "convert", HERE / source, "-o", out], check=True)
            ours, expected = load_file(out / "model.safetensors"), load_file(HERE / f"{name}.safetensors")
            assert ours.keys() == expected.keys(), ours.keys() ^ expected.keys()
            for key, value in expected.items():
                assert ours[key].dtype == value.dtype and torch.equal(ours[key], value), key
        wave = torch.randn(1, 4000, generator=torch.Generator().manual_seed(1))
        for large in (False, True):
            name = "wavlm-large" if large else "wavlm-base"
            out = pathlib.Path(scratch) / name
            model, info = WavLMModel.from_pretrained(out, output_loading_info=True)
            assert not any(info[k] for k in ("missing_keys", "unexpected_keys", "mismatched_keys")), info
            assert AutoFeatureExtractor.from_pretrained(out).do_normalize == large
            reference = WavLMModel(wavlm_config(large)).eval()
            weights = load_file(HERE / f"{name}.safetensors")
            reference.load_state_dict({
                k.replace("conv.weight_g", "conv.parametrizations.weight.original0")
                 .replace("conv.weight_v", "conv.parametrizations.weight.original1"): v for k, v in weights.items()})
            with torch.no_grad():
                difference = (model.eval()(wave)[0] - reference(wave)[0]).abs().max().item()
            assert difference == 0, (name, difference)
            print(f"{name}: {len(weights)} tensors, transformers' output differs by {difference}")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--check", metavar="SEMOLLM")
    args = parser.parse_args()
    torch.set_num_threads(1)
    if args.check:
        check(args.check)
        return
    torch.manual_seed(20240)
    single()
    sharded()
    wavlm(False)
    wavlm(True)
    old_format()


if __name__ == "__main__":
    main()
