#!/usr/bin/env python3
"""Faults made mechanically from the kernels' text, each built and run against the tests of the ops it touches.

    mutants.py SEED COUNT [FILE...]      run by `make emu-mutants`, which says how to compile and link

A fault is caught where a test fails, the emulator complains, or nothing ends in time. Survivors are printed with
their line before and after. Only the mutated file is compiled anew; a test program is linked with its object in
front of the library."""
import glob, os, random, re, shlex, subprocess, sys, tempfile, warnings

FLAVOURS = ["PLAIN", "CHECK"]
warnings.simplefilter("ignore")  # index expressions are evaluated, odd ones too
LIMIT = 300  # seconds for one test program


def code_lines(path):
    """(number, text) of the lines that hold code, without what comments say."""
    inside = False
    for number, line in enumerate(open(path)):
        stripped = line.strip()
        if inside or stripped.startswith(("/*", "//")):
            inside = "*/" not in stripped if inside or stripped.startswith("/*") else inside
            continue
        if stripped.startswith(("#", "extern", "template", "typedef", "static_assert")) or '"' in line:
            continue
        yield number, line.split("/*")[0].rstrip("\n"), line.rstrip("\n")


EXTREME = r"(\w+) [<>]=? (\w+) \? (\1 : \2|\2 : \1)"  # at equality either is right


def substitutions(pattern, replace):
    def sites(text):
        for m in re.finditer(pattern, text):
            new = replace(m)
            for one in new if isinstance(new, list) else [new]:
                if one is not None and one != m.group(0):
                    mutated = text[: m.start()] + one + text[m.end():]
                    if not re.search(EXTREME, text[max(0, m.start() - 30): m.end() + 40]) or " + 1" in one or " - 1" in one:
                        yield mutated
    return sites


def same_value(before, after):
    """Whether two index expressions are one by arithmetic."""
    names = sorted(set(re.findall(r"[A-Za-z_][\w.]*", before)))
    for trial in range(4):
        values = {name: str(random.Random("%s%d" % (name, trial)).randrange(3, 1000)) for name in names}
        number = lambda text: re.sub(r"[A-Za-z_][\w.]*", lambda m: values[m.group(0)], text).replace("/", "//")
        try:
            if eval(number(before), {}) != eval(number(after), {}):
                return False
        except Exception:
            return False
    return True


def swapped_indices(text):
    """Two names within one index expression exchanged."""
    for m in re.finditer(r"\[([^\[\]]*[+*][^\[\]]*)\]", text):
        names = list(re.finditer(r"(?<![\w.>])[A-Za-z_]\w*(?![\w(])", m.group(1)))
        for i, a in enumerate(names):
            for b in names[i + 1:]:
                if a.group(0) == b.group(0):
                    continue
                inner = m.group(1)
                inner = inner[: a.start()] + b.group(0) + inner[a.end(): b.start()] + a.group(0) + inner[b.end():]
                if not same_value(m.group(1), inner):
                    yield text[: m.start(1)] + inner + text[m.end(1):]


def fragment_offsets(text):
    """A number changed where lanes are mapped to a fragment's elements."""
    if not re.search(r"\blane\b|load_matrix|mma_16816|\bg\b|\bt\b", text):
        return
    for m in re.finditer(r"(?<=[+*/%] )\d+\b|(?<=\[)\d+(?=\])", text):
        n = int(m.group(0))
        for other in {n + 1, n * 2, n // 2} - {n, 0} | ({0} if text[m.start() - 2] == "+" else set()):
            yield text[: m.start()] + str(other) + text[m.end():]


FLIP = {"<": "<=", "<=": "<", ">": ">=", ">=": ">"}
COMPARE = r"(?<=[\w)\]]) (<=|>=|<|>) (?=[\w(-])"
KINDS = {
    "barrier": substitutions(r"__sync(threads|warp)\(\);", lambda m: ";"),
    "wait": substitutions(r"copy_async_(wait<\w+>|commit)\(\);", lambda m: ";"),
    "mask": substitutions(r"\bif \((?=[^()]*(?:<|>|&&))[^()]*\)", lambda m: "if (true)"),
    "bound": substitutions(COMPARE + r"[\w.>\-]+(?!\w*[(\[<])", lambda m: [m.group(0) + " + 1", m.group(0) + " - 1"]),
    "swap": swapped_indices,
    "fragment": fragment_offsets,
    "compare": substitutions(COMPARE, lambda m: " " + FLIP[m.group(1)] + " "),
}


def all_faults(files):
    """kind -> [(file, line number, old line, new line)]"""
    faults = {kind: [] for kind in KINDS}
    for path in files:
        for number, text, full in code_lines(path):
            for kind, sites in KINDS.items():
                faults[kind] += [(path, number, full, new) for new in dict.fromkeys(sites(text))]
    return {kind: found for kind, found in faults.items() if found}


def includes(path, seen=None):
    """All kernel files that `path` includes, itself among them."""
    seen = seen if seen is not None else set()
    if path not in seen and os.path.exists(path):
        seen.add(path)
        for name in re.findall(r'#include "(kernels/cuda/[^"]+\.cuh)"', open(path).read()):
            includes(name, seen)
    return seen


def sources_of(path):
    return [path] if path.endswith(".cu") else [s for s in sorted(glob.glob("kernels/cuda/*.cu")) if path in includes(s)]


def tests_of(sources):
    ops = set()
    for source in sources:
        ops.update(re.findall(r"bool cuda_(\w+)\(", open(source).read()))
    # What an op is made of may lie in a file of its own: then every file that asks for it counts, too.
    names = {n for s in sources for n in re.findall(r"^(?:bool|void) (\w+)\(", open(s).read(), re.M)}
    for other in glob.glob("kernels/cuda/*.cu"):
        text = open(other).read()
        if any(re.search(r"\b%s\(" % n, text) for n in names if not n.startswith("cuda_")):
            ops.update(re.findall(r"bool cuda_(\w+)\(", text))
    tests = []
    for test in sorted(glob.glob("tests/cuda/test_*.c"), key=os.path.getsize):
        if any(re.search(r"\b(TWIN_RUN\(\w*&?\w+, %s,|op_%s\()" % (op, op), open(test).read()) for op in ops):
            tests.append(os.path.splitext(test)[0])
    return tests


class Builder:
    def __init__(self, flavour):
        self.build = os.environ[flavour + "_BUILD"]
        self.compile = shlex.split(os.environ[flavour + "_COMPILE"])
        self.link = shlex.split(os.environ["LINK"])
        self.libs = shlex.split(os.environ["LIBS"])

    def objects(self, folder, sources):
        made = []
        for source in sources:
            mutated = os.path.join(folder, source)
            at = mutated if os.path.exists(mutated) else source
            out = os.path.join(folder, os.path.basename(source) + ".o")
            words = next(i for i, word in enumerate(self.compile) if word.startswith("-"))  # "ccache g++", for one
            command = self.compile[:words] + ["-I" + folder] + self.compile[words:]
            command += ["-w", "-MF", out + ".d", "-c", "-o", out, at]
            if subprocess.run(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL).returncode:
                return None
            made.append(out)
        return made

    def program(self, folder, test, objects):
        out = os.path.join(folder, os.path.basename(test))
        libraries = [os.path.join(self.build, "lib%s.a" % name) for name in ("kernels", "base")]
        command = self.link + ["-o", out, os.path.join(self.build, test + ".o")] + objects + libraries + self.libs
        subprocess.run(command, check=True)
        return out


def fails(program, schedule):
    env = dict(os.environ, EMU_SCHEDULE=schedule, EMU_WORKERS="1", OMP_NUM_THREADS="1", EMU_ABORT="1")
    try:
        done = subprocess.run([program], env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=LIMIT)
    except subprocess.TimeoutExpired:
        return "not done after %d s" % LIMIT
    if done.returncode == 0:
        return None
    text = done.stdout.decode(errors="replace")
    said = re.findall(r"emulator: .*|\[  ERROR.*|---.*|.*\bis -?[\d.naif]+.*expected.*", text)
    return (said or ["exit %d" % done.returncode])[0][:150]


def verdict(fault, kind, builders):
    """How it was caught, None where it was not, or "invalid" where it does not compile."""
    path, number, old, new = fault
    sources = sources_of(path)
    tests = tests_of(sources)
    with tempfile.TemporaryDirectory() as folder:
        text = open(path).read().split("\n")
        assert text[number] == old
        text[number] = new
        os.makedirs(os.path.join(folder, os.path.dirname(path)))
        open(os.path.join(folder, path), "w").write("\n".join(text))
        flavours = FLAVOURS[::-1] if kind in ("barrier", "wait") else FLAVOURS
        for flavour in flavours:
            objects = builders[flavour].objects(folder, sources)
            if objects is None:
                return "invalid"
            for test in tests:
                program = builders[flavour].program(folder, test, objects)
                how = fails(program, "warps")
                if how:
                    return "%s, %s: %s" % (os.path.basename(test), flavour.lower(), how)
    return None


def main():
    seed, count = int(sys.argv[1]), int(sys.argv[2])
    files = sys.argv[3:] or sorted(glob.glob("kernels/cuda/*.cu") + glob.glob("kernels/cuda/*.cuh"))
    files = [f for f in files if tests_of(sources_of(f))]
    faults = all_faults(files)
    builders = {flavour: Builder(flavour) for flavour in FLAVOURS}
    print("%d faults can be made: %s" % (sum(map(len, faults.values())),
                                         ", ".join("%d %s" % (len(f), k) for k, f in faults.items())), flush=True)
    draw = random.Random(seed)
    for found in faults.values():
        draw.shuffle(found)
    tried, survivors = 0, []
    while tried < count and any(faults.values()):
        kind = draw.choice([k for k in faults if faults[k]])
        fault = faults[kind].pop()
        how = verdict(fault, kind, builders)
        if how == "invalid":
            continue
        tried += 1
        where = "%s:%d" % (fault[0], fault[1] + 1)
        print("%3d %-8s %-9s %s  %s" % (tried, "caught" if how else "SURVIVED", kind, where, how or ""), flush=True)
        if not how:
            print("    - %s\n    + %s" % (fault[2].strip(), fault[3].strip()), flush=True)
            survivors.append(kind)
    strict = sum(k in ("barrier", "wait") for k in survivors)
    print("%d of %d caught; %d removed barriers or waits survived" % (tried - len(survivors), tried, strict))
    return 1 if strict or 10 * len(survivors) > count else 0


sys.exit(main())
