#!/usr/bin/env python3
"""resources.py COUNTS.md FILE.ptxas...: registers, spills and occupancy of every kernel, from what ptxas said of it.

The most registers over a kernel's instances, and the resident warps of a multiprocessor (of 64) with them: by
registers alone, or by registers, threads and shared memory where the table of counts tells a launch's. Exits 1 where
a kernel spills or keeps anything in local memory."""
import re, subprocess, sys

SHARED = {"sm_80": 164 << 10, "sm_90a": 228 << 10}


def read(path):
    """(mangled name, architecture, registers, bytes of stack and spills, bytes of static shared memory)"""
    name = arch = local = None
    for line in open(path):
        if m := re.search(r"Compiling entry function '(\w+)' for '(\w+)'", line):
            name, arch, local = m.group(1), m.group(2), 0
        elif m := re.search(r"(\d+) bytes stack frame, (\d+) bytes spill stores, (\d+) bytes spill loads", line):
            local = sum(map(int, m.groups()))
        elif (m := re.search(r"Used (\d+) registers", line)) and name:
            yield name, arch, int(m.group(1)), local
            name = None


def base(name):
    return re.split(r"[<(]", re.sub(r"^void ", "", name.lstrip("(")))[0].split("::")[-1].strip()


def launches(path):
    """kernel -> (threads, bytes of shared memory) of its largest counted launch"""
    found = {}
    for line in open(path):
        cells = [c.strip() for c in line.split("|")]
        if len(cells) > 7 and cells[1].startswith("`"):
            name, size = base(cells[1].strip("`")), (int(cells[5]), int(cells[6]))
            found[name] = max(found.get(name, (0, 0)), size)
    return found


def warps(arch, registers, threads, shared):
    each = -(-registers // 8) * 8 * 32
    if not threads:
        return min(64, 65536 // each)
    by_block = -(-threads // 32)
    blocks = min(65536 // each // by_block, 64 // by_block, 32, SHARED[arch] // (shared + 1024))
    return blocks * by_block


def main():
    counted, kernels, bad = launches(sys.argv[1]), {}, []
    for path in sys.argv[2:]:
        for name, arch, registers, local in read(path):
            plain = base(subprocess.run(["c++filt", name], capture_output=True, text=True).stdout.strip())
            kept = kernels.setdefault(plain, {})
            kept[arch] = max(kept.get(arch, (0, 0)), (registers, local))
            if local:
                bad.append("%s for %s: %d bytes of stack and spills" % (name, arch, local))
    archs = sorted({a for k in kernels.values() for a in k})
    print("| kernel | threads | shared bytes | " + " | ".join("%s registers | warps of 64" % a for a in archs) + " |")
    print("|---" * (3 + 2 * len(archs)) + "|")
    for plain in sorted(kernels):
        threads, shared = counted.get(plain, (0, 0))
        row = [plain, str(threads or ""), str(shared) if threads else ""]
        for arch in archs:
            registers = kernels[plain].get(arch, (0, 0))[0]
            row += [str(registers), str(warps(arch, registers, threads, shared)) if registers else ""]
        print("| " + " | ".join(row) + " |")
    for line in bad:
        print(line, file=sys.stderr)
    if not kernels:
        print("no kernel in %s" % " ".join(sys.argv[2:]), file=sys.stderr)
    return 1 if bad or not kernels else 0


sys.exit(main())
