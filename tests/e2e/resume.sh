#!/bin/bash
# resume.sh [SEMOLLM]: a run killed with SIGKILL at ten random moments and resumed writes the same losses and
# the same final adapter, bit for bit, as one never interrupted. Accumulation 2, dropout and noise on, a
# checkpoint every 7 steps, more than two epochs.
set -u
semollm=${1:-build/semollm}
build=$(dirname "$semollm")
kills=10 steps=400
export OMP_NUM_THREADS=1 OMP_WAIT_POLICY=passive
work=$(mktemp -d) || exit 1
trap 'rm -rf "$work"' EXIT

die() {
    echo "not ok $1"
    exit 1
}

[ -x "$build/tests/train/make_tiny" ] || die "there is no $build/tests/train/make_tiny: make BUILD=$build test-programs"
"$build/tests/train/make_tiny" "$work" 32 2>/dev/null || die "make the tiny run's input"

train=("$semollm" train "$work/config.yaml" --set train.epochs=0 --set train.steps=$steps --set train.accumulate=2
    --set train.validate_every=50)

losses() { sed -E 's/, "seconds": [0-9.]+//' "$1/log.jsonl"; }

"${train[@]}" --set "output=$work/whole" 2>"$work/whole.err" || die "an uninterrupted run: $(tail -1 "$work/whole.err")"

last_checkpoint() { ls "$work/killed/checkpoints" 2>/dev/null | sed -n 's/^step-\([0-9]*\)$/\1/p' | sort -n | tail -1; }

# await_steps RUN N: until the child's log has N steps, or the child has ended. Steps, not seconds: a machine
# may be ten times as fast as another.
await_steps() {
    while kill -0 $child 2>/dev/null; do
        [ "$(grep -c '"loss"' "$work/$1/log.jsonl" 2>/dev/null)" -ge "$2" ] 2>/dev/null && return
        sleep 0.002
    done
}

# Each kill falls into its own stretch of the run, at a random step and a random moment of it; two come while
# the run is still starting.
killed=0
stretch=$((steps / (kills + 2)))
while [ $killed -lt $kills ]; do
    before=$(last_checkpoint)
    "${train[@]}" --set "output=$work/killed" --resume 2>"$work/killed.err" &
    child=$!
    case $killed in
    3 | 7) ;;
    *) await_steps killed $((killed * stretch + 1 + RANDOM % stretch)) ;;
    esac
    sleep "0.$(printf '%03d' $((RANDOM % 30)))"
    kill -KILL $child 2>/dev/null || die "the run ended before it was killed $kills times"
    wait $child 2>/dev/null
    killed=$((killed + 1))
    if [ -n "$before" ] && grep -q resuming "$work/killed.err"; then
        grep -q "resuming after step $before$" "$work/killed.err" || die "resumed elsewhere than after step $before"
    fi
done
reached=$(last_checkpoint)
[ -n "$reached" ] || die "ten kills came before the first checkpoint"
"${train[@]}" --set "output=$work/killed" --resume 2>"$work/killed.err" || die "the last resume: $(tail -1 "$work/killed.err")"
grep -q "resuming after step $reached$" "$work/killed.err" || die "the last resume began elsewhere than at step $reached"
echo "ok killed $kills times, last at a checkpoint of step $reached of $steps"

[ "$(grep -c '"loss"' "$work/killed/log.jsonl")" = $steps ] || die "the log has every step once"
[ "$(losses "$work/whole")" = "$(losses "$work/killed")" ] || die "the same losses"
echo "ok the same losses"
for file in adapter_model.safetensors speech_adapter.safetensors optimizer.safetensors; do
    cmp -s "$work/whole/checkpoints/step-$steps/$file" "$work/killed/checkpoints/step-$steps/$file" ||
        die "the same $file"
done
echo "ok the same adapter and optimizer, bit for bit"
[ "$(readlink "$work/whole/best")" = "$(readlink "$work/killed/best")" ] || die "the same best checkpoint"
echo "ok the same best checkpoint"
"$semollm" verify "$work/killed" >/dev/null || die "checkpoints verify"
echo "ok all checkpoints verify"

# SIGTERM: finishes the step, saves, says how to go on, exits 0.
"${train[@]}" --set "output=$work/asked" 2>"$work/asked.err" &
child=$!
await_steps asked $((steps / 4))
kill -TERM $child
wait $child || die "a run asked to stop exits 0: $(tail -1 "$work/asked.err")"
grep -q -- --resume "$work/asked.err" || die "a stopped run says how to go on"
"${train[@]}" --set "output=$work/asked" --resume 2>"$work/asked.err" || die "going on after SIGTERM"
[ "$(losses "$work/whole" | grep -v validation)" = "$(losses "$work/asked" | grep -v validation)" ] || die "the same losses after SIGTERM"
echo "ok stopped by SIGTERM and resumed"

# Another config or other data is refused.
"${train[@]}" --set "output=$work/killed" --resume --set train.lr=1e-3 2>"$work/err" && die "a changed config is refused"
grep -q "config has changed" "$work/err" || die "a changed config is named: $(cat "$work/err")"
"${train[@]}" --set "output=$work/killed" 2>"$work/err" && die "a second run into the same folder is refused"
grep -q -- --resume "$work/err" || die "a second run is told of --resume"
echo "ok a changed config and a second run are refused"
