#!/bin/sh
# Runs each test program given; prints their output and one closing line. Exits 1 if any failed.
export OMP_WAIT_POLICY=passive
passed=0 failed=0 bad=
for test in "$@"; do
    echo "== $test"
    if "$test"; then passed=$((passed + 1)); else failed=$((failed + 1)) bad="$bad $test"; fi
done
[ -z "$bad" ] || echo "failed:$bad"
echo "$passed passed, $failed failed"
[ "$failed" = 0 ]
