#!/bin/bash
# bad_input.sh [SEMOLLM]: some hundreds of generated damaged, lying and malicious files, and full disks, through
# the commands. Each must end with one clear sentence that names the file and exit status 1 or 2, and leave
# nothing half-written; where a change is harmless, with well-formed output. Built with the sanitizers, any
# report of theirs fails the case. BAD_INPUT_ROUNDS multiplies the random cases.
set -u
semollm=$(realpath "${1:-build/semollm}")
build=$(dirname "$semollm")
rounds=${BAD_INPUT_ROUNDS:-1}
export OMP_NUM_THREADS=1 OMP_WAIT_POLICY=passive
root=$PWD
if [ -z "${TMPDIR:-}" ] && [ -w /dev/shm ]; then export TMPDIR=/dev/shm; fi # hundreds of small files, each fsynced
work=$(mktemp -d) || exit 1
trap 'rm -rf "$work"' EXIT
make=$build/tests/eval/bad_input_make
passed=0 failed=0 group_passed=0

die() {
    echo "not ok $1"
    tail -3 "$work"/*.err 2>/dev/null
    exit 1
}

[ -x "$make" ] || die "there is no $make: make BUILD=$build test-programs"
cd "$work" || exit 1

# ---- one case ----

not_ok() {
    failed=$((failed + 1))
    echo "not ok $name: $1 (exit $status)"
    echo "    $command"
    tail -4 err | cut -c1-400 | sed 's/^/    /'
}

sanitizers_silent() {
    ! grep -qE 'Sanitizer|runtime error:' err || { not_ok "a sanitizer's report" && false; }
}

# what MUST_NAME OUT COMMAND...: the command must fail, naming MUST_NAME, and leave nothing in or beside OUT.
refused() {
    local must_name=$1 out=$2
    shift 2
    run "$@"
    sanitizers_silent || return
    [ "$status" = 1 ] || [ "$status" = 2 ] || { not_ok "not refused"; return; }
    check_refusal "$must_name" "$out"
}

# harmless allowed: refused, or done with every line of stdout a JSON object (OUT "-") or OUT there.
survived() {
    local must_name=$1 out=$2
    shift 2
    run "$@"
    sanitizers_silent || return
    case $status in
    0)
        if [ "$out" = - ]; then
            "$make" objects out 2>/dev/null || { not_ok "output is not well-formed"; return; }
        else
            [ -e "$out" ] || { not_ok "done, but without output"; return; }
        fi
        group_passed=$((group_passed + 1))
        ;;
    1 | 2) check_refusal "$must_name" "$out" ;;
    *) not_ok "neither done nor refused" ;;
    esac
    rm -rf made
}

run() {
    rm -rf made && mkdir made
    command="$*"
    timeout 60 "$@" >out 2>err
    status=$?
}

# Files in made/ but for annotate's journal and a run that has begun; of that, checkpoints.
left_behind() {
    find made -type f ! -name '*.partial' ! -path 'made/run/*'
    find made -path '*/checkpoints/*' -o -name '*tmp*'
}

check_refusal() {
    [ "$(grep -c '^semollm: ' err)" = 1 ] || { not_ok "not exactly one sentence"; return; }
    local sentence
    sentence=$(tail -1 err)
    case $sentence in
    "semollm: "*"$1"*) ;;
    "semollm: "*) not_ok "the sentence does not name $1"; return ;;
    *) not_ok "the last line is not the sentence"; return ;;
    esac
    [ "${#sentence}" -ge 30 ] || { not_ok "hardly a sentence"; return; }
    LC_ALL=C grep -q '[[:cntrl:]]' <<<"$sentence" && { not_ok "control characters in the sentence"; return; }
    [ -z "$(left_behind)" ] || { not_ok "left behind: $(left_behind | tr '\n' ' ')"; return; }
    [ ! -e ran ] || { rm -f ran; not_ok "code in the file was run"; return; }
    group_passed=$((group_passed + 1))
}

group() { # closes the cases since the last call under a name
    echo "ok $1: $group_passed cases"
    passed=$((passed + group_passed))
    group_passed=0
}

seeds() { seq 1 $(($1 * rounds)); }

# ---- a corpus, shards and a run to damage ----

mkdir corpus
{
    echo "audio,emotion,speaker,gender,transcript,group"
    for i in $(seq 0 11); do
        "$make" sound "corpus/$i.wav" $((8000 + 700 * i)) $((110 + 20 * i)) || die "make a sound"
        [ $((i % 2)) = 0 ] && emotion=sad gender=female || { emotion=angry gender=male; }
        [ $i -ge 8 ] && group=test || group=train
        echo "$i.wav,$emotion,s$i,$gender,it is number $i,$group"
    done
    # the shortest clips there may be, and digital silence
    "$make" sound corpus/short.wav 400 200 && "$make" sound corpus/silent.wav 8000 0 || die "make a sound"
    echo "short.wav,sad,s12,female,,train"
    echo "silent.wav,angry,s13,male,,train"
    echo "silent.wav,sad,s14,male,,test" | sed 's/silent/copy/'
    cp corpus/silent.wav corpus/copy.wav
} >corpus/table.csv
cat >config.yaml <<YAML
model:
  encoder: wavlm
  llm: llm
  template: chatml
  adapter: {kind: mlp, stack: 8, hidden: 16, prosody: energy+f0, noise: 0.1}
  lora: {rank: 2, alpha: 4, targets: [q, v]}
data:
  shards: shards
  test: {groups: [test]}
prompt:
  user: "{audio}\nDescribe how it is said."
  response: [gender, pitch, speed, volume, emotion, explanation]
train:
  steps: 2
  batch_clips: 10
  checkpoint_every: 1
  lr: 1e-3
output: run
YAML
cp -r "$root/configs/tiny/wavlm" "$root/configs/tiny/llm" .

"$semollm" import csv corpus/table.csv -o manifest.jsonl >census 2>import.err || die "import"
"$semollm" annotate manifest.jsonl -o annotated.jsonl 2>annotate.err || die "annotate"
"$semollm" shard annotated.jsonl -o shards 2>shard.err || die "shard"
"$semollm" train config.yaml 2>train.err || die "train with a clip of 400 samples and digital silence"
"$semollm" eval run -o scored --max-new 20 >scores 2>eval.err || die "eval with digital silence"
"$semollm" verify shards >verify.out 2>verify.err && "$semollm" verify run >verify.out 2>verify.err || die "verify"
for clip in short silent; do
    "$semollm" encode wavlm corpus/$clip.wav -o $clip.safetensors 2>encode.err || die "encode $clip.wav"
    "$semollm" explain run corpus/$clip.wav --json >$clip.json 2>explain.err && "$make" objects $clip.json ||
        die "explain $clip.wav"
    "$semollm" features corpus/$clip.wav --json >$clip.json 2>features.err && "$make" objects $clip.json ||
        die "features of $clip.wav"
done
"$semollm" info shards | grep -q '15 samples' || die "all clips are in the shards"
passed=$((passed + 1))
echo "ok 400 samples and digital silence annotate, shard, train, evaluate, encode and explain"
last=run/checkpoints/step-2

# ---- recordings ----

name=sounds
"$make" hostile sound hostile-sounds && "$make" sound good.wav 4000 150 && "$make" sound good.flac 4000 150 ||
    die "make sounds"
for file in hostile-sounds/*; do
    survived "$file" - "$semollm" features "$file" --json
    survived "$file" made/x.safetensors "$semollm" encode wavlm "$file" -o made/x.safetensors
done
"$make" sound empty.wav 0 0
refused empty.wav - "$semollm" features empty.wav --json
for count in 0 1 399; do
    "$make" sound tiny-$count.wav $count 200
    refused tiny-$count.wav - "$semollm" encode wavlm tiny-$count.wav -o made/x.safetensors
    refused tiny-$count.wav - "$semollm" explain run tiny-$count.wav
    echo "{\"id\":\"a\",\"corpus\":\"c\",\"audio\":\"tiny-$count.wav\",\"emotion\":\"sad\"}" >tiny.jsonl
    rm -rf bad
    if [ $count = 0 ]; then
        refused tiny-0.wav - "$semollm" annotate tiny.jsonl -o made/a.jsonl
        refused tiny-0.wav - "$semollm" shard tiny.jsonl -o made/shards
    else
        "$semollm" shard tiny.jsonl -o bad 2>err || not_ok "a clip of $count samples is not sharded"
        refused "$count audio samples" - "$semollm" train config.yaml --set data.shards=bad --set output=made/run \
            --set 'data.classes=[sad]' --set 'data.test.groups=[]'
    fi
done
for ending in wav flac; do
    for kind in cut flip head stretch grow; do
        for seed in $(seeds 5); do
            "$make" damage good.$ending bad.$ending $kind "$seed"
            name="$kind $seed of .$ending"
            survived bad.$ending - "$semollm" features bad.$ending --json
        done
    done
done
group "recordings"

# ---- tables and manifests ----

name=tables
"$make" hostile table hostile-tables
for file in hostile-tables/*; do
    survived "${file%/*}" made/m.jsonl "$semollm" import csv "$file" -o made/m.jsonl
done
for kind in cut flip; do
    for seed in $(seeds 6); do
        "$make" damage corpus/table.csv corpus/bad.csv $kind "$seed"
        name="$kind $seed of a table"
        survived bad.csv made/m.jsonl "$semollm" import csv corpus/bad.csv -o made/m.jsonl
    done
done
head -3 manifest.jsonl >few.jsonl
head -3 annotated.jsonl >few-annotated.jsonl
for kind in cut flip stretch line; do
    for seed in $(seeds $([ $kind = line ] && echo 20 || echo 5)); do
        name="$kind $seed of a manifest"
        "$make" damage few.jsonl bad.jsonl $kind "$seed"
        survived bad.jsonl made/a.jsonl "$semollm" annotate bad.jsonl -o made/a.jsonl
        "$make" damage few-annotated.jsonl bad.jsonl $kind "$seed"
        survived bad.jsonl made/shards/index.json "$semollm" shard bad.jsonl -o made/shards
    done
done
group "tables and manifests"

# ---- shards ----

name=shards
for kind in cut flip stretch grow; do
    for seed in $(seeds 3); do
        for file in data-000000.tar.zst samples.jsonl.zst index.json; do
            name="$kind $seed of $file"
            rm -rf bad && cp -r shards bad
            "$make" damage shards/$file bad/$file $kind "$seed"
            refused "" - "$semollm" verify bad
            survived bad out "$semollm" train config.yaml --set data.shards=bad --set output=made/run # maybe never read
        done
    done
done
for seed in $(seeds 20); do
    name="value $seed of index.json"
    rm -rf bad && cp -r shards bad
    "$make" damage shards/index.json bad/index.json index "$seed"
    survived bad/index.json out "$semollm" info bad
    survived bad out "$semollm" verify bad
done
group "shards"

# ---- models and tokenizers ----

name=safetensors
"$make" hostile safetensors hostile-tensors
for file in hostile-tensors/*; do
    rm -rf bad && mkdir bad && cp wavlm/*.json bad && cp "$file" bad/model.safetensors
    name="$file as an encoder"
    refused bad - "$semollm" encode bad good.wav -o made/x.safetensors
    rm -rf bad && mkdir bad && cp llm/*.json bad && cp "$file" bad/model.safetensors
    name="$file as an LLM"
    refused bad - "$semollm" logits bad --ids "1 2" -o made/x.safetensors
done
for kind in cut flip head stretch grow; do
    for seed in $(seeds 3); do
        name="$kind $seed of model.safetensors"
        rm -rf bad && cp -r wavlm bad && "$make" damage wavlm/model.safetensors bad/model.safetensors $kind "$seed"
        survived bad made/x.safetensors "$semollm" encode bad good.wav -o made/x.safetensors
        rm -rf bad && cp -r llm bad && "$make" damage llm/model.safetensors bad/model.safetensors $kind "$seed"
        survived bad made/x.safetensors "$semollm" logits bad --ids "1 2" -o made/x.safetensors
    done
done
"$make" hostile json hostile-json
for file in hostile-json/*; do
    for folder in wavlm llm; do
        name="$file as $folder/config.json"
        rm -rf bad && cp -r $folder bad && cp "$file" bad/config.json
        [ $folder = wavlm ] && refused bad - "$semollm" encode bad good.wav -o made/x.safetensors
        [ $folder = llm ] && refused bad/config.json - "$semollm" logits bad --ids "1 2" -o made/x.safetensors
    done
    name="$file as tokenizer.json"
    rm -rf bad && cp -r llm bad && cp "$file" bad/tokenizer.json
    refused bad/tokenizer.json - "$semollm" logits bad --text "it is" -o made/x.safetensors
done
for kind in cut flip stretch value; do
    for seed in $(seeds $([ $kind = value ] && echo 18 || echo 5)); do
        name="$kind $seed of config.json"
        rm -rf bad && cp -r wavlm bad && "$make" damage wavlm/config.json bad/config.json $kind "$seed"
        survived bad made/x.safetensors "$semollm" encode bad good.wav -o made/x.safetensors
        rm -rf bad && cp -r llm bad && "$make" damage llm/config.json bad/config.json $kind "$seed"
        survived bad made/x.safetensors "$semollm" logits bad --ids "1 2" -o made/x.safetensors
        rm -rf bad && cp -r llm bad && "$make" damage llm/tokenizer.json bad/tokenizer.json $kind "$seed"
        name="$kind $seed of tokenizer.json"
        survived bad made/x.safetensors "$semollm" logits bad --text "it is" -o made/x.safetensors
    done
done
group "models and tokenizers"

# ---- pickles ----

"$make" hostile pickle hostile-pickles
for file in hostile-pickles/*; do
    name="pickle $file"
    refused "$file" - "$semollm" convert "$file" -o made/folder
done
group "pickles that would run code"

# ---- configs ----

"$make" hostile yaml hostile-configs
for file in hostile-configs/*; do
    name="config $file"
    refused "$file" - "$semollm" train "$file" --dry-run
    refused "$file" - "$semollm" train "$file" --set output=made/run
done
for kind in cut flip stretch yaml; do
    for seed in $(seeds $([ $kind = yaml ] && echo 25 || echo 6)); do
        name="$kind $seed of the config"
        "$make" damage config.yaml bad.yaml $kind "$seed"
        survived "" out "$semollm" train bad.yaml --dry-run --set output=made/run
    done
done
group "configs"

# ---- runs ----

for file in adapter_config.json adapter_model.safetensors speech_adapter.safetensors optimizer.safetensors state.json; do
    for kind in cut flip grow; do
        name="$kind of $file"
        rm -rf bad && cp -r run bad && "$make" damage $last/$file bad/checkpoints/step-2/$file $kind 7
        refused "" - "$semollm" verify bad
        refused bad/checkpoints/step-2 - "$semollm" train bad/config.yaml --set output=bad --set train.steps=3 --resume
        survived bad/checkpoints/step-2 out "$semollm" explain bad good.wav
    done
done
for file in config.yaml setup.json; do
    for kind in cut flip stretch; do
        for seed in $(seeds 3); do
            name="$kind $seed of $file"
            rm -rf bad && cp -r run bad && "$make" damage run/$file bad/$file $kind "$seed"
            survived "" out "$semollm" explain bad good.wav
        done
    done
    rm -rf bad && cp -r run bad && rm bad/$file
    refused bad - "$semollm" explain bad good.wav
done
for seed in $(seeds 12); do
    name="value $seed of setup.json"
    rm -rf bad && cp -r run bad && "$make" damage run/setup.json bad/setup.json value "$seed"
    survived bad/setup.json out "$semollm" explain bad good.wav
    name="value $seed of state.json"
    rm -rf bad && cp -r run bad && "$make" damage $last/state.json bad/checkpoints/step-2/state.json value "$seed"
    refused bad/checkpoints/step-2 - "$semollm" train bad/config.yaml --set output=bad --set train.steps=3 --resume
done
group "runs"

# ---- what is not there, and folders for files ----

name=missing
mkdir folder
for path in nowhere folder; do
    refused $path - "$semollm" features $path --json
    refused $path - "$semollm" import csv $path -o made/m.jsonl
    refused $path - "$semollm" annotate $path -o made/a.jsonl
    refused $path - "$semollm" shard $path -o made/shards
    refused $path - "$semollm" train $path
    refused $path - "$semollm" train config.yaml --set data.shards=$path --set output=made/run
    refused $path - "$semollm" train config.yaml --set model.encoder=$path --set output=made/run
    refused $path - "$semollm" train config.yaml --set model.llm=$path --set output=made/run
    refused $path - "$semollm" verify $path
    refused $path - "$semollm" info $path
    refused $path - "$semollm" eval $path -o made/eval
    refused $path - "$semollm" explain $path good.wav
    refused $path - "$semollm" explain run $path
    refused $path - "$semollm" export $path -o made/export
    refused $path - "$semollm" convert $path -o made/folder
    refused $path - "$semollm" encode $path good.wav -o made/x.safetensors
    refused $path - "$semollm" encode wavlm $path -o made/x.safetensors
    refused $path - "$semollm" logits $path --ids 1 -o made/x.safetensors
    refused $path - "$semollm" tokenize $path </dev/null
done
rm corpus/copy.wav
refused copy.wav - "$semollm" annotate manifest.jsonl -o made/a.jsonl
refused copy.wav - "$semollm" shard annotated.jsonl -o made/shards
cp corpus/silent.wav corpus/copy.wav
refused folder - "$semollm" annotate manifest.jsonl -o folder
refused folder - "$semollm" encode wavlm good.wav -o folder
group "missing files, folders for files"

# ---- full disks: files may grow to LIMIT KiB ----

full() { # LIMIT MUST_NAME COMMAND...: refused; what it leaves in made/ is checked by the caller
    local limit=$1 must_name=$2
    shift 2
    rm -rf made && mkdir made
    command="$*"
    (trap '' XFSZ && ulimit -f "$limit" && exec timeout 60 "$@") 2>&1 >/dev/null | cat >err # err itself is not limited
    status=${PIPESTATUS[0]}
    sanitizers_silent || return 1
    [ $status = 1 ] || { not_ok "not refused" && return 1; }
    mv made kept && mkdir made
    check_refusal "$must_name" -
    rm -rf made && mv kept made
}

absent() { # PATH...: nothing there, and no temporary file anywhere
    [ -z "$(ls -d "$@" 2>/dev/null)$(find made -name '*tmp*')" ] ||
        not_ok "left behind: $(find made -mindepth 1 | tr '\n' ' ')"
}

name="import on a full disk"
full 1 made/m.jsonl "$semollm" import csv corpus/table.csv -o made/m.jsonl && absent made/m.jsonl
name="annotate on a full disk"
full 1 made/a.jsonl "$semollm" annotate manifest.jsonl -o made/a.jsonl && absent made/a.jsonl
"$semollm" annotate manifest.jsonl -o made/a.jsonl 2>err && cmp -s <(sed "s|../corpus|corpus|" made/a.jsonl) annotated.jsonl || not_ok "not continued"
name="shard on a full disk"
full 20 made/shards "$semollm" shard annotated.jsonl -o made/shards && absent made/shards/index.json
"$semollm" shard annotated.jsonl -o made/shards 2>err && "$semollm" verify made/shards >out 2>err &&
    cmp -s made/shards/index.json shards/index.json || not_ok "not continued"
name="report on a full disk"
full 8 made/page.html "$semollm" report data shards -o made/page.html && absent made/page.html
name="encode on a full disk"
full 8 made/x.safetensors "$semollm" encode wavlm good.wav -o made/x.safetensors && absent made/x.safetensors
name="logits on a full disk"
full 1 made/x.safetensors "$semollm" logits llm --ids "1 2" -o made/x.safetensors && absent made/x.safetensors
name="export on a full disk"
full 8 made/out "$semollm" export run -o made/out && absent made/out
name="convert on a full disk"
bin=$root/tests/fixtures/convert/wavlm-base.pt
full 1 made/out "$semollm" convert "$bin" -o made/out && absent made/out
name="a checkpoint on a full disk"
full 16 made/run/checkpoints "$semollm" train config.yaml --set output=made/run && absent made/run/checkpoints/*
"$semollm" train config.yaml --set output=made/run --resume 2>err || not_ok "not continued"
cmp -s made/run/checkpoints/step-2/adapter_model.safetensors $last/adapter_model.safetensors || not_ok "another adapter"
name="train's config on a full disk"
full 0 made/run "$semollm" train config.yaml --set output=made/run && absent made/run/config.yaml
name="eval on a full disk"
full 1 made/scored "$semollm" eval run -o made/scored --max-new 20 && absent made/scored/predictions.jsonl
"$semollm" eval run -o made/scored --max-new 20 >out 2>err && cmp -s made/scored/predictions.jsonl \
    scored/predictions.jsonl || not_ok "not continued"
name="a full disk behind stdout"
for arguments in "features good.wav --json" "explain run good.wav" "info shards" "verify shards"; do
    run sh -c "exec \"$semollm\" $arguments >/dev/full"
    [ "$status" = 1 ] && sanitizers_silent && check_refusal written || not_ok "not refused"
done
group "full disks, and going on afterwards"

echo "$passed passed, $failed failed"
[ "$failed" = 0 ]
