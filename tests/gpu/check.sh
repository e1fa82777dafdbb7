#!/bin/bash
# Everything that wants a GPU, in one call of at most 8 minutes:   make gpu-check OUT=dir
#
#     tests/gpu/check.sh OUT BUILD CARRY
#
# It needs the CUDA toolkit, make, gcc and Python (for the table; with torch, transformers and peft also for the peer).
# jansson, pcre2, xxhash and cmocka come from the system or from CARRY, which `make carry` fills on a machine that has
# them. The parts, each with its own limit, most telling first:
#
#   build      this tree for this GPU, without what reads audio, text and YAML (make LEAN=1)
#   roofline   every operation at real shapes over the machine's own copy and matmul ceilings
#   steps      whole LoRA steps and generation with random weights: WavLM large with Qwen2.5 1.5B, 7B, Llama 3.1 8B
#   twins      whole tiny steps on the CUDA device beside the CPU device
#   kernels    tests/cuda: every kernel beside the CPU's
#   sanitizer  compute-sanitizer's memcheck and racecheck over every operation at small shapes
#   peer       transformers and PEFT at the same shapes
#
# Without a GPU the emulator takes its place in twins and kernels, and the rest is skipped, which the report says.
# OUT gets gpu-check.txt (read that: its head says how), gpu-check.json, machine.yaml (what was measured, for
# `semollm train --estimate OUT/machine.yaml`) and gpu-check.log.
set -u
out=$1 build=$2 carry=$3
limit=${GPU_CHECK_SECONDS:-470}
tokens=${GPU_CHECK_TOKENS:-16384}
jobs=${JOBS:-$(nproc)}
parts=$build/parts
mkdir -p "$out" "$build" && rm -rf "$parts" && mkdir -p "$parts" || exit 1
log=$out/gpu-check.log
: >"$log"
failed=0

say() { printf '%s\n' "$*" | tee -a "$log"; }
left() { echo $((limit - SECONDS)); }
note() { # part status seconds why
  printf '{"part": "%s", "status": "%s", "seconds": %s, "why": "%s"}\n' "$1" "$2" "$3" "$4" >>"$parts/parts.jsonl"
  say "$1: $2 (${3} s)${4:+, $4}"
}
skip() { note "$1" skipped 0 "$2"; }

# part NAME SECONDS FILE COMMAND...: stdout's lines of JSON to parts/FILE, everything to the log.
part() {
  local name=$1 most=$2 file=$parts/$3 began=$SECONDS rest
  shift 3
  rest=$(left)
  [ "$rest" -lt 5 ] && { skip "$name" "no time left of $limit s"; return 1; }
  [ "$most" -gt "$rest" ] && most=$rest
  say "== $name: $*"
  timeout -k 5 "$most" "$@" >"$parts/stdout" 2>>"$log"
  local status=$?
  cat "$parts/stdout" >>"$log"
  grep '^{' "$parts/stdout" >>"$file"
  case $status in
  0) if grep -q '^skipped: ' "$parts/stdout"; then
      skip "$name" "$(sed -n 's/^skipped: //p' "$parts/stdout" | head -n 1)"
    else
      note "$name" ok $((SECONDS - began)) ""
    fi ;;
  124 | 137) note "$name" "timed out" $((SECONDS - began)) "limit $most s" ;;
  *) note "$name" failed $((SECONDS - began)) "exit $status: $(tail -n 1 "$log" | tr -cd '[:alnum:] .,:_/()-' | cut -c -200)"
    failed=1 ;;
  esac
  return $status
}

gpu() { nvidia-smi --query-gpu="$1" --format=csv,noheader,nounits 2>/dev/null | head -n 1; }

name=$(gpu name)
if [ -n "$name" ]; then
  device=toolkit capability=$(gpu compute_cap | tr -d .)
  [ "$capability" = 90 ] && capability=90a
  code="-gencode arch=compute_$capability,code=sm_$capability"
else
  device=emu code=
fi
printf '{"gpu": "%s", "memory_mib": "%s", "driver": "%s", "commit": "%s", "date": "%s"}\n' "$name" "$(gpu memory.total)" \
  "$(gpu driver_version)" "$(git rev-parse --short HEAD 2>/dev/null)" "$(date -u +%FT%TZ)" >"$parts/machine.jsonl"
say "gpu-check on ${name:-no GPU: the emulator in its place} in at most $limit s"

unset MAKEFLAGS MAKELEVEL
lean=(make --no-print-directory -k -j"$jobs" LEAN=1 CUDA="$device" WARNINGS=-w BUILD="$build" CARRY="$carry")
[ -n "$code" ] && lean+=(GENCODE="$code")
programs=() tests=()
for source in tests/gpu/*.c; do programs+=("$build/${source%.c}"); done
for source in tests/cuda/test_*.c; do tests+=("$build/${source%.c}"); done
[ -f "$carry/jansson.h" ] || [ -f /usr/include/jansson.h ] ||
  say "jansson, pcre2, xxhash and cmocka are neither installed nor in $carry: run make carry where they are"
part build 240 build.jsonl "${lean[@]}" "${programs[@]}" "${tests[@]}"

shapes=configs/shapes
ceiling() { sed -n "s/.*\"$1\": \([0-9.]*\).*/\1/p" "$parts/roofline.jsonl" 2>/dev/null | tail -n 1; }

# Each test program on its own, all at once where there is a GPU: most of their time is the CPU device's.
kernels() { # most seconds for all of them
  local program name began=$SECONDS most=$1
  if [ "$device" = toolkit ]; then
    for program in "${tests[@]}"; do
      [ -x "$program" ] && [ "$program" != "$build/tests/cuda/test_device" ] &&
        OMP_NUM_THREADS=2 timeout -k 5 "$most" "$program" >"$parts/$(basename "$program").log" 2>&1 &
    done
    wait
    program=$build/tests/cuda/test_device # it watches the GPU's memory: alone
    [ -x "$program" ] && timeout -k 5 "$most" "$program" >"$parts/test_device.log" 2>&1
  fi
  for program in "${tests[@]}"; do
    name=$(basename "$program")
    [ $((SECONDS - began)) -gt "$most" ] && { skip "kernels: $name" "no time left of $most s"; continue; }
    [ -x "$program" ] || { skip "kernels: $name" "it was not built"; failed=1; continue; }
    if [ "$device" = toolkit ]; then
      part "kernels: $name" 5 kernels.jsonl sh -c "cat '$parts/$name.log'; grep -q '  PASSED  ' '$parts/$name.log' &&
        ! grep '  FAILED  ' '$parts/$name.log' >&2"
    else
      part "kernels: $name" "$most" kernels.jsonl "$program"
    fi
  done
}

if [ "$device" = emu ]; then
  for skipped in roofline steps peer sanitizer; do skip $skipped "there is no GPU"; done
  [ -x "$build/tests/gpu/roofline" ] && part "roofline, on the CPU, small" 60 small.jsonl "$build/tests/gpu/roofline" cpu small
  part "twins, emulated" 200 twins.jsonl "$build/tests/gpu/twin_steps" cuda
  kernels 150
else
  part roofline 60 roofline.jsonl "$build/tests/gpu/roofline" cuda
  copy=$(ceiling copy_tb_s) matmul=$(ceiling matmul_tflops)
  for llm in qwen2.5-7b qwen2.5-1.5b llama-3.1-8b; do
    part "steps: $llm" 60 steps.jsonl "$build/tests/gpu/steps" cuda $shapes/wavlm-large $shapes/$llm "$tokens" \
      "${copy:-1}" "${matmul:-100}"
  done
  part "steps: encoder" 20 steps.jsonl "$build/tests/gpu/steps" cuda $shapes/wavlm-large - "$tokens" "${copy:-1}" \
    "${matmul:-100}"
  part twins 30 twins.jsonl "$build/tests/gpu/twin_steps" cuda
  kernels 60
  sanitizer=$(command -v compute-sanitizer || ls /usr/local/cuda/bin/compute-sanitizer 2>/dev/null)
  for tool in memcheck racecheck; do
    if [ -n "$sanitizer" ]; then
      part "sanitizer: $tool" 40 sanitizer.jsonl "$sanitizer" --tool $tool --error-exitcode 9 \
        "$build/tests/gpu/roofline" cuda small
    else
      skip "sanitizer: $tool" "compute-sanitizer is not installed"
    fi
  done
  for llm in qwen2.5-7b qwen2.5-1.5b; do
    also=$([ $llm = qwen2.5-7b ] && echo ,encoder,attention,generate)
    part "peer: $llm" 80 peer.jsonl python3 tests/bench/gpu_peer.py --llm $shapes/$llm --tokens "$tokens" \
      --parts "packed,padded$also" --seconds 8
  done
fi

python3 tests/gpu/summary.py "$parts" "$out" || failed=1
say "gpu-check took $SECONDS s; see $out/gpu-check.txt"
exit $failed
