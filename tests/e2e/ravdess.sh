#!/bin/sh
# ravdess.sh [SEMOLLM [smoke|full [RAVDESS [DIR]]]]: from a real corpus's own files to scores on actors never
# trained on. smoke: a subset and a few steps; full: configs/ravdess.yaml as it stands, with its controls.
# RAVDESS: the folder that holds Actor_01 .. Actor_24. DIR keeps what full makes.
set -u
semollm=${1:-build/semollm} kind=${2:-smoke} corpus=${3:-../shared/data/ravdess}
export OMP_WAIT_POLICY=passive
work=$(mktemp -d) || exit 1
trap 'rm -rf "$work"' EXIT
. "$(dirname "$0")/try.sh"

if [ ! -d "$corpus/Actor_01" ]; then
    echo "skip ravdess: no corpus at $corpus"
    exit 0
fi

lines() { wc -l <"$1" | tr -d ' '; }

# ---- both: import, annotate, shard ----
home=$work
[ "$kind" = full ] && [ -n "${4:-}" ] && home=$4 && mkdir -p "$home"
try import "$semollm" import ravdess "$corpus" -o "$home/manifest.jsonl"
[ "$(lines "$home/manifest.jsonl")" = 1440 ] || die "import: 1440 utterances"
[ "$(grep -c '"speaker":"Actor_24","gender":"female"' "$home/manifest.jsonl")" = 60 ] || die "import: 60 of Actor_24"
[ "$(grep -c '"emotion":"neutral"' "$home/manifest.jsonl")" = 96 ] || die "import: 96 neutral"
grep -q '^published counts: all 8 are met' "$work/err" || die "import: 192 clips of seven emotions, 96 of neutral"
echo "ok import: 1440 utterances = 192 x 7 + 96"

if [ "$kind" = smoke ]; then # every other clip of seven actors
    grep -E '"speaker":"Actor_(01|02|03|04|20|23|24)"' "$home/manifest.jsonl" | awk 'NR % 2' >"$home/some.jsonl"
    mv "$home/some.jsonl" "$home/manifest.jsonl"
fi
clips=$(lines "$home/manifest.jsonl")
try annotate "$semollm" annotate "$home/manifest.jsonl" -o "$home/annotated.jsonl"
[ "$(grep -c '"f0_median_hz":[0-9].*"levels":{"pitch":' "$home/annotated.jsonl")" = "$clips" ] ||
    die "annotate: every clip has its pitch"
echo "ok annotate: $clips utterances measured"
try shard "$semollm" shard "$home/annotated.jsonl" -o "$home/shards"
try verify "$semollm" verify "$home/shards"
echo "ok shard: verified"

train() { "$semollm" train configs/ravdess.yaml --set "data.shards=$home/shards" --set "output=$home/run" "$@"; }
score() { sed -n "/^  \"$1\": {/,/^    \"recall\"/s/^    \"$2\": *\([0-9.]\{1,6\}\).*/\1/p" "$home/eval/scores.json"; }

if [ "$kind" = full ]; then
    train || die train
    for control in noise permute untrained; do
        "$semollm" eval "$home/run" -o "$home/eval-$control" --control "$control" --require chance ||
            die "control: $control"
    done
    "$semollm" eval "$home/run" -o "$home/eval-validation" --split validation || die "scores of the validation actors"
    "$semollm" eval "$home/run" -o "$home/eval" --examples 3 --require emotion=0.3 || die "scores of the test actors"
    echo "ok full: UA $(score emotion ua), WA $(score emotion wa) of eight emotions (chance: UA 0.125), test actors"
    exit 0
fi

# ---- smoke: a short run, two test actors ----
short() {
    train --set "data.test.speakers=[Actor_23, Actor_24]" --set "data.validation.speakers=[Actor_20]" \
        --set train.steps=100 --set train.validate_every=50 "$@"
}
try plan short --dry-run
grep -Eq '^ +speakers +4 +1 +2$' "$work/out" || die "plan: four actors train, one validates, two test"
echo "ok plan: speakers apart"
for recipe in configs/*.yaml; do # every recipe's plan, with the tiny models and these actors for its own
    [ "$recipe" = configs/every-key.yaml ] && continue
    try "plan of $recipe" "$semollm" train "$recipe" --dry-run --set "data.shards=$home/shards" \
        --set model.encoder=configs/tiny/wavlm --set model.llm=configs/tiny/llm --set "output=$work/none" \
        --set "data.test.groups=[Actor_24]" --set "data.test.speakers=[]" \
        --set data.validation.share=0 --set "data.validation.groups=[Actor_20]" --set "data.validation.speakers=[]"
    grep -q '^largest micro-batch' "$work/out" || die "plan of $recipe: says its largest micro-batch"
done
echo "ok recipes: all plan"
try train short
losses=$(sed -n 's/.*"validation_loss": \([0-9.]*\).*/\1/p' "$home/run/log.jsonl" | cut -c1-6 | tr '\n' ' ')
echo "$losses" | awk 'NF == 2 && $2 < $1 && $2 < 2 { fine = 1 } END { exit !fine }' ||
    die "train: validation losses fall below 2, found $losses"
echo "ok train: validation losses $losses"
try eval "$semollm" eval "$home/run" -o "$home/eval" --require gender=0.7
[ "$(lines "$home/eval/predictions.jsonl")" = 60 ] || die "eval: 60 clips answered"
[ "$(grep -Ec '"id": ?"ravdess-[0-9-]*-2[34]"' "$home/eval/predictions.jsonl")" = 60 ] || die "eval: test actors alone"
[ "$(score emotion unparsable)" -le 30 ] || die "eval: half the answers name one of the eight emotions"
echo "ok eval: gender UA $(score gender ua), emotion UA $(score emotion ua), test actors"
try explain "$semollm" explain "$home/run" "$corpus/Actor_24/03-01-05-02-01-01-24."* --json
grep -Eq '"emotion": ?"(angry|calm|disgust|fearful|happy|neutral|sad|surprised)"' "$work/out" ||
    die "explain: names an emotion: $(cat "$work/out")"
echo "ok explain"
