#!/bin/sh
# The main job on synthetic speech: make a corpus, annotate it, train the adapter and LoRA on frozen tiny
# models, and evaluate on voices never trained on, with three controls that must fall to chance.
# usage: configs/tiny/demo.sh [SEMOLLM [DIR]]
set -eu
semollm=${1:-build/semollm}
out=${2:-build/demo}
export OMP_WAIT_POLICY=passive
began=$(date +%s)
say() { printf '\n[%4d s] %s\n' $(($(date +%s) - began)) "$1"; }

rm -rf "$out"
mkdir -p "$out"
say "a synthetic corpus: four emotions, training voices and other voices to test on"
"$semollm" synth "$out/corpus"
say "measuring features, writing explanations"
"$semollm" annotate "$out/corpus/manifest.jsonl" -o "$out/annotated.jsonl"
say "shards"
"$semollm" shard "$out/annotated.jsonl" -o "$out/shards"
say "training the adapter and LoRA; the tiny WavLM and the tiny LLM are frozen"
"$semollm" train configs/tiny/demo.yaml --set data.shards="$out/shards" --set output="$out/run"
for control in noise permute untrained; do
    say "control: $control"
    "$semollm" eval "$out/run" -o "$out/eval-$control" --control "$control" --require chance
done
say "voices never trained on"
"$semollm" eval "$out/run" -o "$out/eval" --examples 3 --require emotion=0.85 --require gender=0.9 \
    --require pitch=0.9 --require speed=0.8 --require volume=0.9
say "done: scores and answers are in $out/eval, the run in $out/run"
