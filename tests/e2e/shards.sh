#!/bin/bash
# shards.sh [SEMOLLM]: shards in the hands of others' tools. GNU tar lists and unpacks every sample of every shard, ids
# with dots, slashes, blanks, accents and more than a hundred characters included; the bytes do not depend on the
# number of threads; what is unpacked is what went in.
set -u
semollm=$(realpath "${1:-build/semollm}")
make=$(dirname "$semollm")/tests/eval/bad_input_make
work=$(mktemp -d) || exit 1
trap 'rm -rf "$work"' EXIT
export OMP_WAIT_POLICY=passive
clips=120

die() {
    echo "not ok $1"
    [ -s "$work/err" ] && tail -3 "$work/err"
    exit 1
}

id_of() {
    local long=
    case $(($1 % 6)) in
    0) echo "Ses01.F/impro$1.wav" ;;
    1) echo "../../etc/pass.wd.$1" ;;
    2) echo "a b  c%2F%$1" ;;
    3) echo "Äußerung — 喜び $1" ;;
    4) for _ in $(seq 10); do long="$long/très.long"; done && echo "$1$long" ;;
    *) echo "plain-id_$1" ;;
    esac
}

encode() { # as the design has it: all but letters, digits, _ and - as %XX of their UTF-8
    local LC_ALL=C text=$1 out= c i
    for ((i = 0; i < ${#text}; i++)); do
        c=${text:i:1}
        case $c in
        [A-Za-z0-9_-]) out=$out$c ;;
        *) printf -v c '%%%02X' "'$c" && out=$out${c/FFFFFFFFFFFFFF/} ;;
        esac
    done
    echo "$out"
}

for i in $(seq 0 $((clips - 1))); do
    [ "$i" -ge 12 ] || "$make" sound "$work/$i.wav" $((8000 + 700 * i)) $((110 + 20 * i)) || die "make a sound"
    echo "{\"id\":\"$(id_of "$i")\",\"audio\":\"$((i % 12)).wav\",\"emotion\":\"sad\"}" >>"$work/m.jsonl"
    encode "$(id_of "$i")" >>"$work/expected"
done

for threads in 1 3; do
    "$semollm" shard "$work/m.jsonl" -o "$work/shards-$threads" --shard-size 0.1 --threads $threads 2>"$work/err" ||
        die "shard with $threads threads"
done
diff -r "$work/shards-1" "$work/shards-3" >"$work/err" || die "the same bytes from 1 and 3 threads"
"$semollm" verify "$work/shards-1" >/dev/null 2>"$work/err" || die "verify"
[ "$(ls "$work/shards-1"/*.tar.zst | wc -l)" -ge 4 ] || die "several shards"
echo "ok the same bytes from 1 and 3 threads"

mkdir "$work/unpacked"
for shard in "$work/shards-1"/*.tar.zst; do
    LC_ALL=C.UTF-8 tar --zstd -tf "$shard" >>"$work/listed" 2>"$work/err" || die "tar --zstd -tf ${shard##*/}"
    [ ! -s "$work/err" ] || die "tar says something about ${shard##*/}"
    tar --zstd -xf "$shard" -C "$work/unpacked" 2>"$work/err" || die "tar --zstd -xf ${shard##*/}"
done
sed 's/.*/&.flac\n&.json/' "$work/expected" | cmp -s - "$work/listed" || die "tar lists every sample, in order"
echo "ok tar --zstd -tf lists the $clips samples"

while read -r name; do cat "$work/unpacked/$name.json" && echo; done <"$work/expected" >"$work/lines"
cmp -s "$work/lines" "$work/m.jsonl" || die "the JSON of every sample is its line"
for i in 0 5 11; do # a shard's audio is what went in
    "$semollm" features "$work/$i.wav" --json 2>/dev/null | sed 's/.*"duration_s/"duration_s/' >"$work/original"
    "$semollm" features "$work/unpacked/$(encode "$(id_of $i)").flac" --json 2>/dev/null |
        sed 's/.*"duration_s/"duration_s/' >"$work/stored"
    [ -s "$work/original" ] && cmp -s "$work/original" "$work/stored" || die "the audio of sample $i"
done
echo "ok what tar unpacks is what went in"
