#!/bin/sh
# run.sh "SCHEDULE..." PROGRAM...: runs each program under each schedule, one a core; says how long each took
# and shows what those that fail had to say. Exits 1 if any failed.
schedules=$1
shift
logs=$(mktemp -d) || exit 1
trap 'rm -rf "$logs"' EXIT
export OMP_WAIT_POLICY=passive OMP_NUM_THREADS=1 EMU_WORKERS=1 logs
for program in "$@"; do
    for schedule in $schedules; do echo "$program $schedule"; done
done | xargs -P "$(nproc)" -n 2 sh -c '
    log=$logs/$(echo "$1 $2" | tr "/ :" "___") start=$(date +%s)
    EMU_SCHEDULE=$2 timeout 900 "$1" >"$log" 2>&1
    status=$?
    seconds=$(($(date +%s) - start))
    if [ $status = 0 ]; then echo "  ok      $1 ($2, $seconds s)"; exit 0; fi
    echo "  FAILED  $1 ($2, $seconds s), exit $status"
    grep -v "^\[ RUN\|^\[       OK\|^\[==" "$log" | head -40
    : >"$logs/failed"' one
[ ! -e "$logs/failed" ]
