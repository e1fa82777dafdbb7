#!/bin/bash
# report.sh [SEMOLLM]: the page of `semollm report data`, on a small corpus with hostile, silent and bare utterances: the
# same bytes each time, nothing from outside, the script that its policy names; and where Chromium is installed, what a
# browser makes of it, at a phone's width in dark mode and a desktop's in light.
set -u
semollm=$(realpath "${1:-build/semollm}")
here=$(cd "$(dirname "$0")" && pwd)
export OMP_WAIT_POLICY=passive
work=$(mktemp -d) || exit 1
trap 'rm -rf "$work"' EXIT
. "$here/try.sh"

# ---- a corpus ----
corpus=$work/corpus
try synth "$semollm" synth "$corpus" --clips 20 --test-clips 4
try annotate "$semollm" annotate "$corpus/manifest.jsonl" -o "$corpus/annotated.jsonl"
{ # a WAV of half a second of silence: 4000 samples of 16 bits at 8 kHz
    printf 'RIFF\144\037\0\0WAVEfmt \020\0\0\0\1\0\1\0\100\037\0\0\200\076\0\0\2\0\020\0data\100\037\0\0'
    head -c 8000 /dev/zero
} >"$corpus/silence.wav"
hostile='</bdi></code><script>parent.pwned=1</script><img src=x onerror=\"parent.pwned=1\">'"'"'\u2028&lt;'
clip=$(sed -n '1s/.*"audio":"\([^"]*\)".*/\1/p' "$corpus/annotated.jsonl")
{
    cat "$corpus/annotated.jsonl"
    printf '{"id":"%s","audio":"%s","emotion":"%s","transcript":"%s","explanation":"%s","teacher":"%s"}\n' \
        "$hostile" "$clip" "$hostile" "$hostile" "$hostile" "$hostile"
    printf '{"id":"silent","audio":"silence.wav","emotion":"none"}\n{"id":"bare","audio":"silence.wav"}\n'
} >"$corpus/all.jsonl"
try shard "$semollm" shard "$corpus/all.jsonl" -o "$work/shards"
cards=14 # twice the classes: four emotions, the hostile one, "none" and not given
page=$work/page.html
try report "$semollm" report data "$work/shards" -o "$page"
try "report again" "$semollm" report data "$work/shards" -o "$work/again.html"
cmp -s "$page" "$work/again.html" || die "the same data make the same bytes"
cd "$work" || exit 1
try "report on a manifest" "$semollm" report data "$corpus/all.jsonl" --cards 0
[ -s all-data.html ] || die "a page without -o is NAME-data.html in the working folder"

refused() { # MUST_SAY ARGUMENTS...: wrong usage
    say=$1
    shift
    "$semollm" report "$@" >"$work/out" 2>"$work/err"
    [ $? = 2 ] && grep -q -- "$say" "$work/err" || die "report $* is wrong usage"
}
refused "expected data PATH"
refused 'no report on "run"' run "$work/shards"
refused "shard folder or a manifest" data
refused "--cards must be 0 to 64" data "$work/shards" --cards 65
refused "--levels must be 3 or 5" data "$work/shards" --levels 4
refused "is a folder" data "$work/shards" -o "$work"

# ---- what it holds ----
count() { grep -o "$1" "$page" | wc -l | tr -d ' '; }
[ "$(count '<article class="card"')" = $cards ] || die "$cards cards, found $(count '<article class="card"')"
[ "$(count ' src="data:audio/flac;base64,')" = $cards ] || die "$cards recordings"
[ "$(count '<script')" = 1 ] || die "one script"
grep -Eq '<(link|img|iframe|object|embed|base|form)|(src|href)="[^d#]|@import|url\(' "$page" && die "nothing from outside"
policy=$(sed -n "s/.*script-src 'sha256-\([^']*\)'.*/\1/p" "$page")
script=$(sed -n '/^<script>$/,/^<\/script>$/p' "$page" | sed '1s/.*//; $d' | sha256sum | cut -c1-64 | tr a-f A-F |
    basenc -d --base16 | base64)
[ -n "$policy" ] && [ "$policy" = "$script" ] || die "the policy names the page's script"
if command -v xmllint >/dev/null; then
    xmllint --noout --nonet --huge "$page" 2>"$work/err" || die "the page is well-formed"
fi
echo "ok report: $cards cards, $(wc -c <"$page" | tr -d ' ') bytes, the same each time"

# ---- what a browser makes of it ----
chromium=$(command -v chromium || command -v chromium-browser || command -v google-chrome)
if [ -z "$chromium" ]; then
    echo "skip report: no chromium to look at the page with"
    exit 0
fi

# browse PAGE WIDTH SCHEME: the verdict to $work/out, console messages to $work/err
browse() {
    timeout 100 "$chromium" --headless --no-sandbox --disable-gpu --disable-web-security --allow-file-access-from-files \
        --autoplay-policy=no-user-gesture-required --user-data-dir="$work/profile" --window-size=1400,1000 \
        --blink-settings=preferredColorScheme="$3" --enable-logging=stderr --virtual-time-budget=20000 --dump-dom \
        "file://$here/report.html#file://$1,$2,$cards" 2>"$work/log" | sed -n 's/.*<pre id="found">\(.*\)<\/pre>.*/\1/p' >"$work/out"
    grep CONSOLE "$work/log" >"$work/err"
}

faultless() { # PAGE WIDTH SCHEME NAME
    browse "$1" "$2" "$3"
    [ "$(cat "$work/out")" = FAULTLESS ] || die "$4: $(cat "$work/out")"
    [ -s "$work/err" ] && die "$4: the console is silent"
    echo "ok report in a browser: $4"
}
faultless "$page" 390 0 "a phone, dark"
faultless "$page" 1280 1 "a desktop, light"

# Any other script is kept from running, and said to be: so these checks see the policy at work.
sed 's|^</main>|<script>parent.pwned=1</script></main>|' "$page" >"$work/injected.html"
browse "$work/injected.html" 1280 1
grep -q 'Content Security Policy' "$work/err" || die "a foreign script is refused: $(cat "$work/out")"
echo "ok report in a browser: a foreign script is refused"
