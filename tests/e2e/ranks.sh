#!/bin/bash
# ranks.sh [SEMOLLM [DEVICE]]: the same run on 1, 2, 3 and 4 ranks (started by tests/mpirun.sh): the same losses but for
# the order of sums; bit for bit the same where the number of ranks is; killed and taken up by another number of ranks
# it goes on; one rank's failure ends all. Accumulation and dropout on. On the emulated CUDA device a part of it.
set -u
semollm=${1:-build/semollm} device=${2:-cpu}
build=$(dirname "$semollm")
export OMP_NUM_THREADS=1 OMP_WAIT_POLICY=passive EMU_WORKERS=1
work=$(mktemp -d) || exit 1
trap 'rm -rf "$work"' EXIT

die() {
    echo "not ok $1"
    exit 1
}

[ -x "$build/tests/train/make_tiny" ] || die "there is no $build/tests/train/make_tiny: make BUILD=$build test-programs"
"$build/tests/train/make_tiny" "$work" 40 2>/dev/null || die "make the tiny run's input"

steps=12 validations=3 precision=()
[ "$device" = cpu ] || steps=4 validations=1 precision=(--precision fp32) # the emulator takes a second a step
train=(train "$work/config.yaml" --device "$device" "${precision[@]}" --set train.epochs=0 --set train.steps=$steps --set train.batch_clips=2
    --set train.accumulate=4 --set train.validate_every=5 --set train.checkpoint_every=4)

# ranks N OUTPUT [ARGUMENT...]: its messages in OUTPUT.err.
ranks() {
    local count=$1 output=$2
    shift 2
    tests/mpirun.sh "$count" "$semollm" "${train[@]}" --set "output=$work/$output" "$@" >"$work/$output.out" 2>"$work/$output.err"
}

said() { sed -n 's/^semollm: //p' "$work/$1.err"; }

ranks 2 two
case $? in
77) echo "skipped: there is no mpirun" && exit 0 ;;
0) ;;
*) grep -q "this build has no MPI" "$work/two.err" || die "two ranks: $(said two)"
    [ "$(grep -c "this build has no MPI" "$work/two.err")" = 2 ] || die "without MPI each of two processes says so"
    echo "skipped: this build has no MPI" && exit 0 ;;
esac

# Losses and gradients are sums of the same numbers in another order, off by some roundings (6e-8) of a few hundred
# terms, which twelve steps of AdamW carry on.
limit=1e-6
numbers() { sed -nE 's/.*"(validation_)?loss": ([0-9.e+-]+)(.*"grad_norm": ([0-9.e+-]+))?.*/\2 \4/p' "$1/log.jsonl"; }
plan() { sed -nE 's/.*"step": ([0-9]+).*"lr": ([^,]*),.*("clips".*), "seconds".*/\1 \2 \3/p' "$1/log.jsonl"; }
# expect_close ONE OTHER WHAT
expect_close() {
    [ "$(plan "$work/$1" | wc -l)" = $steps ] && [ "$(plan "$work/$1")" = "$(plan "$work/$2")" ] || die "$2: the clips and tokens of each step as in $1"
    paste <(numbers "$work/$1") <(numbers "$work/$2") | awk -v limit=$limit -v steps=$steps -v all=$((steps + validations)) '
        function differ(a, b) { a = (a - b) / a; a = a < 0 ? -a : a; if (a > worst) worst = a }
        NF == 4 { differ($2, $4); norms++ }
        { differ($1, $(1 + NF / 2)) }
        END { printf "%d losses and %d norms, at most %.1e apart\n", NR, norms, worst
              exit !(NR == all && norms == steps && worst <= limit) }' >"$work/apart" ||
        die "$3: the losses of $1: $(cat "$work/apart")"
    echo "ok $3: $(cat "$work/apart")"
}
same_files() {
    cmp -s "$work/$1/checkpoints/step-$steps/optimizer.safetensors" "$work/$2/checkpoints/step-$steps/optimizer.safetensors" &&
        cmp -s "$work/$1/checkpoints/step-$steps/adapter_model.safetensors" "$work/$2/checkpoints/step-$steps/adapter_model.safetensors"
}

"$semollm" "${train[@]}" --set "output=$work/one" 2>"$work/one.err" || die "one process: $(said one)"
expect_close one two "2 ranks"
grep -q "2 ranks" "$work/two.err" && [ "$(grep -c "$steps of $steps steps" "$work/two.err")" = 1 ] || die "rank 0 alone speaks"
same_files one two && die "two ranks are expected to round otherwise than one"

ranks 2 again || die "two ranks again: $(said again)"
[ "$(numbers "$work/two")" = "$(numbers "$work/again")" ] && same_files two again || die "the same number of ranks, the same bits"
echo "ok 2 ranks again: bit for bit"
[ "$device" = cpu ] || exit 0

ranks 1 alone || die "mpirun -n 1: $(said alone)"
[ "$(numbers "$work/one")" = "$(numbers "$work/alone")" ] && same_files one alone || die "one rank is one process"
for count in 3 4; do
    ranks $count ranks$count --set train.encoder_cache=memory || die "$count ranks: $(said ranks$count)"
    expect_close one ranks$count "$count ranks, encoder cache"
done
ranks 4 few --set train.accumulate=1 || die "4 ranks for steps of 2 clips: $(said few)"
"$semollm" "${train[@]}" --set "output=$work/one_few" --set train.accumulate=1 2>"$work/one_few.err" || die "steps of 2 clips"
expect_close one_few few "4 ranks, two with nothing to do"

# All ranks are killed after a random number of steps, and others, in another number, go on.
await_steps() {
    while kill -0 $child 2>/dev/null; do
        [ "$(grep -c '"loss"' "$work/$1/log.jsonl" 2>/dev/null)" -ge "$2" ] 2>/dev/null && return
        sleep 0.005
    done
}
pids() { pgrep -f "^$semollm .*output=$work/$1( |\$)"; }
counts=(3 2 4)
for i in 0 1 2; do
    ranks ${counts[$i]} killed --resume &
    child=$!
    await_steps killed $((i * 4 + 1 + RANDOM % 3))
    kill -KILL $(pids killed) 2>/dev/null
    wait $child 2>/dev/null
done
ranks 2 killed --resume || die "the last resume: $(said killed)"
expect_close one killed "killed on 3, 2 and 4 ranks"
"$semollm" "${train[@]}" --set "output=$work/two" --set train.steps=12 --resume 2>"$work/err" || die "one process resumes what two finished"

# One of them killed: the others do not wait for it.
long=(--set train.steps=1000000 --set train.validate_every=0)
ranks 3 lost "${long[@]}" &
child=$!
await_steps lost 6
kill -KILL "$(pids lost | tail -1)"
began=$SECONDS
wait $child && die "a run that lost a rank fails"
[ $((SECONDS - began)) -le 10 ] || die "the other ranks end when one is killed"
[ -z "$(pids lost)" ] || die "no rank is left"
"$semollm" verify "$work/lost" >/dev/null || die "the checkpoints of a run that lost a rank"
echo "ok one rank killed ends all; checkpoints intact"

# One asked to stop: all stop after the same step, and save.
ranks 3 asked "${long[@]}" &
child=$!
await_steps asked 3
kill -TERM "$(pids asked | tail -1)"
wait $child || die "ranks asked to stop exit 0: $(said asked)"
last=$(sed -n 's/.*"step": \([0-9]*\).*/\1/p' "$work/asked/log.jsonl" | tail -1)
[ -d "$work/asked/checkpoints/step-$last" ] || die "a checkpoint of the step at which all stopped"
echo "ok one rank asked to stop, all stopped"

# One failure is told once, with its rank; what all see, without.
shard=$(ls "$work"/shards/*.tar.zst)
cp -r "$work/shards" "$work/damaged"
printf '\377\377' | dd of="$work/damaged/${shard##*/}" bs=1 seek=40000 conv=notrunc 2>/dev/null
ranks 3 damaged --set "data.shards=$work/damaged"
[ $? = 1 ] || die "a damaged sample ends all ranks with 1"
[ "$(said damaged | wc -l)" = 1 ] && said damaged | grep -q "^rank [0-2]: .*damaged" || die "one rank's failure: $(said damaged)"
ranks 3 wrong --set train.lr=much
[ $? = 2 ] && [ "$(said wrong | wc -l)" = 1 ] && said wrong | grep -q "^.*train.lr" || die "all ranks' failure: $(said wrong)"

# A loss that is no number is one for all, also for a rank that had nothing to do.
"$build/tests/train/make_tiny" "$work/hot" 8 1e38 2>/dev/null || die "make an LLM that overflows"
ranks 2 nan --set "model.llm=$work/hot/llm" --set train.batch_clips=1 --set train.accumulate=1
[ $? = 1 ] && [ "$(said nan | wc -l)" = 1 ] && said nan | grep -q "^step 3: .*3 steps in a row" || die "three bad steps: $(said nan)"
[ "$(grep -c '"skipped": true' "$work/nan/log.jsonl")" = 3 ] || die "three steps are skipped"

# Two programs of one launch that do not train the same. (Open MPI's way to start them.)
apart() {
    tests/mpirun.sh 1 "$semollm" "${train[@]}" --resume "${@:1:2}" : -n 1 "$semollm" "${train[@]}" --resume "${@:3:2}" \
        >/dev/null 2>"$work/apart.err"
    [ $? = 1 ] && [ "$(said apart | wc -l)" = 1 ] && said apart | grep -q "$5" || die "$5: $(said apart)"
}
apart --set "output=$work/one" --set train.seed=3 "another config"
for folder in one two; do rm -rf "$work/$folder/checkpoints/step-12"; done
apart --set "output=$work/one" --set "output=$work/two" "rank 1 has other weights than rank 0"
rm -rf "$work"/two/checkpoints/*
apart --set "output=$work/one" --set "output=$work/two" "rank 1 stands after step 0 and rank 0 after step 10"
echo "ok failures are told once; ranks that are not alike are refused"

# Where ranks cannot reach each other nothing is trained, least of all twice; nor by what works alone.
PMI_SIZE=2 "$semollm" "${train[@]}" --set "output=$work/lie" 2>"$work/lie.err"
[ $? = 1 ] && [ ! -e "$work/lie" ] && said lie | grep -q PMI_SIZE || die "strangers: $(said lie)"
SLURM_STEP_NUM_TASKS=2 "$semollm" eval "$work/one" -o "$work/report" 2>"$work/eval.err"
[ $? = 2 ] && said eval | grep -q "one process" || die "eval on ranks: $(said eval)"
echo "ok what is not to run side by side does not"
