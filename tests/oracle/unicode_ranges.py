"""Writes model/unicode_ranges.c: where tokenizers' Unicode tables differ from Unicode 14 (classes, PCRE2 10.42)
and from utf8proc (NFC). Usage: python tests/oracle/unicode_ranges.py > model/unicode_ranges.c

Needs a Python with Unicode 14 tables (3.11) and the utf8proc shared library."""
import ctypes
import ctypes.util
import unicodedata

from tokenizers import Regex, normalizers, pre_tokenizers

assert unicodedata.unidata_version == "14.0.0", "run with Python 3.11, whose tables are Unicode 14"
POINTS = [c for c in range(1, 0x110000) if not 0xD800 <= c < 0xE000]
CATEGORIES = "Lu Ll Lt Lm Lo Mn Mc Me Nd Nl No Pc Pd Ps Pe Pi Pf Po Sm Sc Sk So Cf".split()


def ranges(points):
    out = []
    for c in sorted(points):
        if out and out[-1][1] == c - 1:
            out[-1][1] = c
        else:
            out.append([c, c])
    return out


def newer_classes():
    rows = []
    unassigned = "".join(chr(c) for c in POINTS if unicodedata.category(chr(c)) == "Cn")
    for category in CATEGORIES:
        outside = normalizers.Replace(Regex(r"\P{%s}" % category), "")
        rows += [(low, high, category) for low, high in ranges(map(ord, outside.normalize_str(unassigned)))]
    return sorted(rows)


def newer_numeric():
    digits = pre_tokenizers.Digits(individual_digits=True)
    numeric = {c for c in POINTS if len(digits.pre_tokenize_str("a" + chr(c))) == 2}
    return ranges(c for c in numeric if not unicodedata.category(chr(c)).startswith("N"))


def nfc_inert():
    library = ctypes.CDLL(ctypes.util.find_library("utf8proc"))
    library.utf8proc_get_property.restype = ctypes.POINTER(ctypes.c_uint16 * 2)  # category, combining_class
    buffer = (ctypes.c_int32 * 16)()
    boundary = ctypes.c_int(0)
    nfd = normalizers.NFD()
    found = {0x11930, 0x11935}  # would compose to U+11938
    for c in POINTS:
        size = library.utf8proc_decompose_char(c, buffer, 16, 1 << 4 | 1 << 1, ctypes.byref(boundary))
        if [ord(x) for x in nfd.normalize_str(chr(c))] != list(buffer[:size]):
            found.add(c)
        if not library.utf8proc_get_property(c).contents[1] or size > 1:
            continue
        moved = nfd.normalize_str("a" + chr(c) + "\u0334") != "a" + chr(c) + "\u0334"  # class 1
        passed = nfd.normalize_str("a\u0345" + chr(c)) != "a\u0345" + chr(c)  # class 240
        if not moved and not passed:
            found.add(c)
    return ranges(found)


def table(kind, name, rows):
    text = f"const {kind} {name}[] = {{\n"
    line = "   "
    for row in rows:
        entry = " {0x%X, 0x%X%s}," % (row[0], row[1], ', "%s"' % row[2] if len(row) > 2 else "")
        if len(line) + len(entry) > 118:
            text += line + "\n"
            line = "   "
        line += entry
    return text + line + f"\n}};\nconst size_t {name}_COUNT = sizeof {name} / sizeof *{name};\n"


print("/* Made by tests/oracle/unicode_ranges.py. */\n#include \"model/unicode.h\"\n\n/* clang-format off */")
print(table("UnicodeCategoryRange", "UNICODE_NEWER", newer_classes()))
print(table("UnicodeRange", "UNICODE_NEWER_NUMERIC", newer_numeric()))
print(table("UnicodeRange", "UNICODE_NFC_INERT", nfc_inert()), end="")
