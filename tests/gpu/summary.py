#!/usr/bin/env python3
"""gpu-check's lines of JSON to one JSON, one table and a machine file for --estimate.

    tests/gpu/summary.py PARTS OUT"""

import json
import os
import pathlib
import statistics
import sys

READ = """How to read this. "of copy" and "of matmul" are shares of what this machine reached in a device-to-device copy
and in an 8192^3 bf16 product, both measured in this run. For streaming kernels read the first (target 0.85; bytes are
the compulsory ones, so needless traffic lowers it), for products and attention the second. "x products" is a whole
step's time over the time of its matrix products run alone (target 1.25 at 7 and 8B, 1.45 at 1.5B). The estimate beside
it is what `semollm train --estimate` says with this machine's ceilings and the shares it assumes. The peer is
transformers with PEFT: padded as users run it, packed at its best, with fewer tokens where so many do not fit (then the
two memories are not compared). Tokens are real ones, padding not counted."""


def lines(folder, name):
    path = folder / f"{name}.jsonl"
    result = []
    for line in path.read_text().splitlines() if path.exists() else []:
        try:
            result.append(json.loads(line))
        except ValueError:
            result.append({"error": f"unreadable: {line[:100]}"})
    return result


def table(title, head, rows):
    if not rows:
        return [title, "  nothing measured", ""]
    cells = [head] + [[text(cell) for cell in row] for row in rows]
    widths = [max(len(row[i]) for row in cells) for i in range(len(head))]
    form = lambda row: "  " + "  ".join(cell.ljust(w) if i == 0 else cell.rjust(w)
                                        for i, (cell, w) in enumerate(zip(row, widths)))
    return [title] + [form(row).rstrip() for row in cells] + [""]


def text(cell):
    if cell is None:
        return "-"
    if isinstance(cell, float):
        return f"{cell:.3f}" if abs(cell) < 10 else f"{cell:.1f}" if abs(cell) < 1000 else f"{cell:.0f}"
    return str(cell)


def ceilings(found):
    for line in found["roofline"]:
        if "ceilings" in line:
            return line["ceilings"]
    return {}


def peer_rate(found, model, arrangement):
    for line in found["peer"]:
        if line.get("step") == model and line.get("peer") == arrangement and "tokens_s" in line:
            return line
    return {}


def step_rows(found):
    rows = []
    for line in found["steps"]:
        if "step" not in line:
            continue
        if "error" in line:
            continue
        model = line["step"]
        padded, packed = (peer_rate(found, model, a) for a in ("padded", "packed"))
        over = lambda peer: line["tokens_s"] / peer["tokens_s"] if peer else None
        same = packed.get("tokens") == line["tokens"]
        memory = line["memory_gib"] / packed["memory_gib"] if packed.get("memory_gib") and same else None
        rows.append([model, line["tokens"], line["ms"], line["tokens_s"], line["of_matmul"], line["times"],
                     line["estimate_ms"], line["estimate_times"], line["memory_gib"], line["planned_gib"], over(padded),
                     over(packed), memory])
    return rows


def roofline_rows(found):
    rows = []
    for line in found["roofline"]:
        if "op" in line and "error" not in line:
            rows.append([line["op"], line["kind"], line["us"], line["gb_s"], line["of_copy"], line["tflop_s"],
                         line["of_matmul"]])
    return rows


def profile_rows(found):
    """An operation's milliseconds in a step of each model, and its share of the step."""
    models = list(dict.fromkeys(line["profile"] for line in found["steps"] if "profile" in line))
    ms = {(line["profile"], line["op"]): line["ms"] for line in found["steps"] if "profile" in line}
    whole = {line["step"]: line["ms"] for line in found["steps"] if "step" in line and "ms" in line}
    operations = list(dict.fromkeys(op for _, op in sorted(ms, key=ms.get, reverse=True)))
    rows = []
    for op in operations:
        pairs = [(ms.get((model, op)), whole.get(model)) for model in models]
        rows.append([op] + [cell for took, step in pairs for cell in (took, took / step if took and step else None)])
    sums = [sum(took for (name, _), took in ms.items() if name == model) for model in models]
    rows.append(["all operations"] + [cell for model, took in zip(models, sums)
                                      for cell in (took, took / whole[model] if whole.get(model) else None)])
    return ["operation"] + [head for model in models for head in (f"{model}, ms", "of step")], rows if ms else []


def peer_rows(found):
    keys = ("tokens_s", "ms", "tflop_s", "times_real_time", "memory_gib")
    rows = []
    for line in found["peer"]:
        what = line.get("step") or line.get("encoder") or line.get("generate") or line.get("attention") or ""
        if "error" not in line:
            rows.append([f"{line.get('peer')}: {what}"] + [line.get(key) for key in keys])
    return rows


def encoder_and_generation(found):
    rows = []
    for line in found["steps"]:
        if "encoder" in line:
            peers = [p for p in found["peer"] if "encoder" in p and "ms" in p]
            best = min((p["ms"] for p in peers), default=None)
            rows.append(["WavLM large forward, ms", line["ms"], best, best / line["ms"] if best else None])
        if "generate" in line and "tokens_s" in line:
            peers = [p["tokens_s"] for p in found["peer"] if p.get("generate") == line["generate"] and "tokens_s" in p]
            rows.append([f"generation, {line['generate']}, tokens/s", line["tokens_s"], peers[0] if peers else None,
                         line["tokens_s"] / peers[0] if peers else None])
    for ours, theirs in (("attention, causal", "attention, causal"), ("attention, gated bias", "attention, no bias"),
                         ("attention_backward", "attention, causal, backward")):
        mine = [r["tflop_s"] for r in found["roofline"] if r.get("op") == ours and "tflop_s" in r]
        peer = [p["tflop_s"] for p in found["peer"] if p.get("attention") == theirs and "tflop_s" in p]
        if mine:
            rows.append([f"{ours}, TFLOP/s (peer: {theirs})", mine[0], peer[0] if peer else None,
                         mine[0] / peer[0] if peer else None])
    return rows


def problems(found):
    """A sentence for each part that did not do, and each line that is an error."""
    result = [f"{p['part']}: {p['status']}{', ' + p['why'] if p.get('why') else ''}"
              for p in found["parts"] if p.get("status") != "ok"]
    for name in ("roofline", "steps", "twins", "peer", "small"):
        for line in found[name]:
            what = [str(line[key]) for key in ("peer", "op", "step", "generate", "twin", "precision") if key in line]
            if "error" in line:
                result.append(f"{name}, {', '.join(what)}: {line['error']}")
            elif line.get("ok") is False:
                result.append(f"{name}, {', '.join(what)}: differs from the CPU's in {line.get('where')}")
    return ["What failed or was skipped"] + [f"  {line}" for line in result or ["nothing"]] + [""]


def known_machine(gpu):
    """The name of configs/machines that this GPU is, and that file's values."""
    lower = gpu.lower().replace(" ", "")
    for name in ("h100", "h200", "a100", "l40s", "4090"):
        if name in lower:
            text_of = pathlib.Path(f"configs/machines/{name}.yaml").read_text()
            pairs = (line.split("#")[0].split(":", 1) for line in text_of.splitlines() if ":" in line.split("#")[0])
            return name, {key.strip(): value.strip() for key, value in pairs}
    return None, {}


def machine_file(found, folder):
    """What was measured, for --estimate; what was not, as assumed. None without a GPU."""
    top, machine = ceilings(found), found["machine"][0] if found["machine"] else {}
    if not top or not machine.get("gpu"):
        return None
    name, known = known_machine(machine["gpu"])
    rate = lambda key, *ops: [r[key] for r in found["roofline"] if r.get("op") in ops and key in r]
    streams = [r["of_copy"] for r in found["roofline"] if r.get("kind") == "stream" and "of_copy" in r]
    shares = [s["of_matmul"] * s["ms"] / s["products_ms"] for s in found["steps"] if s.get("products_ms")]
    mean = lambda values: statistics.harmonic_mean(values) if values else None
    measured = {
        "gemm_share": min(mean(shares), 1.0) if shares else None,
        "stream_share": min(statistics.median(streams), 1.5) if streams else None,
        "attention_tflops": mean(rate("tflop_s", "attention, causal")),
        "attention_bias_tflops": mean(rate("tflop_s", "attention, gated bias")),
        "attention_backward_tflops": mean(rate("tflop_s", "attention_backward")),
        "convolution_tflops": mean(rate("tflop_s", "pos_conv"))}
    fall = {"gemm_share": 0.93, "stream_share": 0.85, "attention_tflops": 72, "attention_bias_tflops": 162,
            "attention_backward_tflops": 63, "convolution_tflops": 372}
    values = {key: value if value else float(known.get(key, fall[key])) for key, value in measured.items()}
    missing = [key for key, value in measured.items() if not value]
    source = f"gpu-check of {machine.get('date')} at {machine.get('commit')}"
    source += f"; not measured: {', '.join(missing)}" if missing else ""
    rows = [f"name: {json.dumps(machine['gpu'])}", f"source: {json.dumps(source)}",
            f"memory_gib: {float(machine['memory_mib']) / 1024:.1f}", f"copy_tb_s: {top['copy_tb_s']:.3f}",
            f"matmul_tflops: {top['matmul_tflops']:.1f}"]
    rows += [f"{key}: {value:.3f}" for key, value in values.items()]
    rows += [f"kernel_us: {known.get('kernel_us', '2.5')}", f"bus_gb_s: {known.get('bus_gb_s', '20')}",
             f"block_shared_kib: {known.get('block_shared_kib', '99')}"]
    content = "# Written by make gpu-check.\n" + "\n".join(rows) + "\n"
    (folder / "machine.yaml").write_text(content)
    caches = os.environ.get("XDG_CACHE_HOME") or pathlib.Path(os.environ.get("HOME", "/")) / ".cache"
    cache = pathlib.Path(caches) / "semollm/machines"
    if name:
        cache.mkdir(parents=True, exist_ok=True)
        (cache / f"{name}.yaml").write_text(content)
    return name


def main():
    parts, out = pathlib.Path(sys.argv[1]), pathlib.Path(sys.argv[2])
    found = {name: lines(parts, name) for name in
             ("machine", "parts", "roofline", "steps", "twins", "kernels", "peer", "sanitizer", "small")}
    (out / "gpu-check.json").write_text(json.dumps(found, indent=1) + "\n")
    name = machine_file(found, out)
    machine = found["machine"][0] if found["machine"] else {}
    report = [f"gpu-check: {machine.get('gpu') or 'no GPU, emulated'}, commit {machine.get('commit')}, "
              f"{machine.get('date')}", "", READ, ""]
    top = ceilings(found)
    if top:
        report += [f"ceilings: copy {top['copy_tb_s']:.2f} TB/s, matmul {top['matmul_tflops']:.0f} TFLOP/s", ""]
    report += table("Parts", ["part", "status", "s"],
                    [[p.get("part"), p.get("status"), p.get("seconds")] for p in found["parts"]])
    report += problems(found)
    report += table("LoRA steps: WavLM large and an LLM, clips of 1 to 15 s",
                    ["LLM", "tokens", "ms", "tokens/s", "of matmul", "x products", "estimate ms", "estimate x", "GiB",
                     "planned", "over padded peer", "over packed peer", "memory / packed peer"], step_rows(found))
    report += table("Where a step's time goes", *profile_rows(found))
    report += table("Encoder, generation, attention", ["what", "ours", "peer", "ours over peer"],
                    encoder_and_generation(found))
    report += table("Peer", ["what", "tokens/s", "ms", "TFLOP/s", "x real time", "GiB"], peer_rows(found))
    report += table("Operations at the shapes of WavLM large and Qwen2.5 7B",
                    ["operation", "kind", "us", "GB/s", "of copy", "TFLOP/s", "of matmul"], roofline_rows(found))
    report += table("Tiny steps beside the CPU device", ["model", "precision", "loss", "CPU's", "worst cosine", "ok"],
                    [[t.get("twin"), t.get("precision"), t.get("loss"), t.get("other"), t.get("cosine"), t.get("ok")]
                     for t in found["twins"] if "error" not in t])
    if name:
        report += [f"machine.yaml here and ~/.cache/semollm/machines/{name}.yaml hold what was measured: "
                   f"`semollm train CONFIG --estimate {name}` uses it from now on."]
    (out / "gpu-check.txt").write_text("\n".join(report) + "\n")
    print("\n".join(report))


if __name__ == "__main__":
    main()
