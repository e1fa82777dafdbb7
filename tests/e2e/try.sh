# For end-to-end scripts that have a folder $work: die and try.

die() {
    echo "not ok $1"
    [ -s "$work/err" ] && tail -3 "$work/err"
    exit 1
}

try() { # NAME COMMAND...: the command succeeds; its output is in $work/out
    name=$1
    shift
    "$@" >"$work/out" 2>"$work/err" || die "$name"
}
