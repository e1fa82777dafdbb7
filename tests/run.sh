#!/bin/sh
# Runs each test program given, one a core; prints the output of each when it has ended, and one closing line. Exits 1
# if any failed.
export OMP_WAIT_POLICY=passive
logs=$(mktemp -d) || exit 1
trap 'rm -rf "$logs"' EXIT
export logs
printf '%s\n' "$@" | xargs -P "$(nproc)" -n 1 sh -c '
    log=$(mktemp "$logs/log.XXXXXX")
    if "$1" >"$log" 2>&1; then echo "$1" >"$log.passed"; else echo "$1" >"$log.failed"; fi
    { echo "== $1"; cat "$log"; } >"$log.shown"
    flock "$logs" cat "$log.shown"' one
count() { find "$logs" -name "*.$1" | wc -l; }
passed=$(count passed) failed=$(count failed)
[ "$failed" = 0 ] || echo "failed:" $(cat "$logs"/*.failed)
echo "$passed passed, $failed failed"
[ "$failed" = 0 ] && [ "$passed" = $# ]
