/* Patterns of tokenizer.json. They are written for Oniguruma; what PCRE2 would read differently is
 * spelled out, and what is not known to mean the same in both is refused. */
#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>
#include <stdlib.h>
#include <string.h>

#include "model/tokenizer_internal.h"

enum { PATTERN_LIMIT = 16384, MATCH_LIMIT = 5000000, HEAP_LIMIT_KIB = 65536 };

struct Pattern {
    char *literal; /* null for a regex */
    size_t length;
    pcre2_code *code;
    pcre2_match_context *limits;
};

bool cuts_add(Cuts *cuts, size_t start, size_t end, bool match, Error *err) {
    if (!memory_grow(&cuts->items, cuts->count, &cuts->capacity, sizeof *cuts->items, err)) return false;
    cuts->items[cuts->count++] = (Cut){start, end, match};
    return true;
}

/* ---- Oniguruma's syntax to PCRE2's ---- */

#define SPACES                                                                                                         \
    "\\x{9}-\\x{d}\\x{20}\\x{85}\\x{a0}\\x{1680}\\x{2000}-\\x{200a}\\x{2028}\\x{2029}\\x{202f}\\x{205f}\\x{3000}"
#define NO_SPACES                                                                                                      \
    "\\x{0}-\\x{8}\\x{e}-\\x{1f}\\x{21}-\\x{84}\\x{86}-\\x{9f}\\x{a1}-\\x{167f}\\x{1681}-\\x{1fff}\\x{200b}-\\x{2027}" \
    "\\x{202a}-\\x{202e}\\x{2030}-\\x{205e}\\x{2060}-\\x{2fff}\\x{3001}-\\x{10ffff}"

typedef struct Translation {
    const char *at;
    Text out;
    bool in_class;
    const char *where;
    Error *err;
} Translation;

static bool refuse(const Translation *t, const char *what) {
    return fail(t->err, "%s: the regex uses %s, which is not supported (at \"%.20s\")", t->where, what, t->at);
}

static bool is_category(const char *name, size_t length) {
    static const char *const known =
        " L Lu Ll Lt Lm Lo M Mn Mc Me N Nd Nl No P Pc Pd Ps Pe Pi Pf Po S Sm Sc Sk So Z Zs "
        "Zl Zp C Cc Cf Cn Co Cs ";
    char wanted[5] = " ";
    if (length < 1 || length > 2) return false;
    memcpy(wanted + 1, name, length);
    wanted[length + 1] = ' ';
    return strstr(known, wanted) != NULL;
}

/* A general category, with what Unicode added to it since PCRE2's tables. */
static void add_category(Translation *t, const char *name, size_t length, bool negated) {
    Text *out = &t->out;
    if (t->in_class && negated) {
        text_addf(out, "\\P{%.*s}", (int)length, name);
        return;
    }
    if (!t->in_class) text_add_string(out, negated ? "[^" : "[");
    text_addf(out, "\\p{%.*s}", (int)length, name);
    for (size_t i = 0; i < UNICODE_NEWER_COUNT; i++) {
        const UnicodeCategoryRange *range = &UNICODE_NEWER[i];
        if (strncmp(range->category, name, length) != 0) continue;
        text_addf(out, "\\x{%x}-\\x{%x}", (unsigned)range->low, (unsigned)range->high);
    }
    if (!t->in_class) text_add_string(out, "]");
}

static bool translate_property(Translation *t, bool negated) {
    const char *name = t->at + 3, *end = t->at[2] == '{' ? strchr(name, '}') : NULL;
    if (!end || !is_category(name, (size_t)(end - name))) return refuse(t, "a property other than a general category");
    add_category(t, name, (size_t)(end - name), negated);
    t->at = end + 1;
    return true;
}

static void add_spaces(Translation *t, bool negated) {
    if (t->in_class)
        text_add_string(&t->out, negated ? NO_SPACES : SPACES);
    else
        text_add_string(&t->out, negated ? "[^" SPACES "]" : "[" SPACES "]");
    t->at += 2;
}

/* \uHHHH, \xHH and \x{H...} */
static bool translate_number(Translation *t, const char *digits, size_t least, size_t most) {
    size_t count = strspn(digits, "0123456789abcdefABCDEF");
    if (count > most) count = most;
    bool braced = digits[-1] == '{';
    if (count < least || (braced && digits[count] != '}')) return refuse(t, "a malformed character number");
    char number[8];
    memcpy(number, digits, count);
    number[count] = '\0';
    long value = strtol(number, NULL, 16);
    if (least == 2 && value > 0x7F) return refuse(t, "a raw byte");
    text_addf(&t->out, "\\x{%lx}", (unsigned long)value);
    t->at = digits + count + braced;
    return true;
}

static bool translate_escape(Translation *t) {
    char c = t->at[1];
    switch (c) {
    case 's':
        add_spaces(t, false);
        return true;
    case 'S':
        add_spaces(t, true);
        return true;
    case 'p':
        return translate_property(t, false);
    case 'P':
        return translate_property(t, true);
    case 'd':
    case 'D':
        add_category(t, "Nd", 2, c == 'D');
        t->at += 2;
        return true;
    case 'v': /* vertical tab; in PCRE2 all vertical white space */
        text_add_string(&t->out, "\\x{b}");
        t->at += 2;
        return true;
    case 'u':
        return translate_number(t, t->at + 2, 4, 4);
    case 'x':
        return t->at[2] == '{' ? translate_number(t, t->at + 3, 1, 6) : translate_number(t, t->at + 2, 2, 2);
    default:
        break;
    }
    bool letter = (c >= '0' && c <= '9') || (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') || c == '_';
    bool same = letter ? strchr("nrtfae", c) != NULL : c >= ' ' && c < 0x7F;
    if (!same) return refuse(t, "an escape");
    text_add(&t->out, t->at, 2);
    t->at += 2;
    return true;
}

static bool translate_group(Translation *t) {
    static const char *const openings[] = {
        "(?:", "(?=", "(?!", "(?>", "(?<=", "(?<!", "(?i:", "(?i)", "(?-i:", "(?-i)"};
    size_t length = 1;
    if (t->at[1] == '*') return refuse(t, "a verb");
    if (t->at[1] == '?') {
        length = 0;
        for (size_t i = 0; i < sizeof openings / sizeof *openings; i++)
            if (strncmp(t->at, openings[i], strlen(openings[i])) == 0) length = strlen(openings[i]);
        if (!length) return refuse(t, "a group");
    }
    text_add(&t->out, t->at, length);
    t->at += length;
    return true;
}

/* {n}, {n,} and {n,m}; any other brace is a character. */
static bool translate_brace(Translation *t) {
    size_t digits = strspn(t->at + 1, "0123456789");
    if (!digits) {
        if (t->at[1] == ',') return refuse(t, "a repetition without its least number");
        text_add_string(&t->out, "\\{");
        t->at++;
        return true;
    }
    const char *end = strchr(t->at, '}');
    if (!end || strspn(t->at + 1, "0123456789,") != (size_t)(end - t->at - 1)) return refuse(t, "a repetition");
    if (end[1] == '+') return refuse(t, "a repetition of a repetition");
    text_add(&t->out, t->at, (size_t)(end - t->at + 1));
    t->at = end + 1;
    return true;
}

static bool translate_class_character(Translation *t) {
    if (*t->at == '[') return refuse(t, "a class within a class");
    if (t->at[0] == '&' && t->at[1] == '&') return refuse(t, "an intersection of classes");
    if (*t->at == ']') t->in_class = false;
    text_add(&t->out, t->at++, 1);
    return true;
}

static bool translate_character(Translation *t) {
    if (*t->at == '\\') return translate_escape(t);
    if (t->in_class) return translate_class_character(t);
    switch (*t->at) {
    case '(':
        return translate_group(t);
    case '{':
        return translate_brace(t);
    case '^':
    case '$':
        return refuse(t, "an anchor");
    case '[':
        t->in_class = true;
        text_add(&t->out, t->at++, 1);
        if (*t->at == '^') text_add(&t->out, t->at++, 1);
        if (*t->at == ']') return refuse(t, "an empty class");
        return true;
    default:
        text_add(&t->out, t->at++, 1);
        return true;
    }
}

static char *translate(const char *regex, const char *where, Error *err) {
    Translation t = {.at = regex, .where = where, .err = err};
    while (*t.at)
        if (!translate_character(&t)) {
            text_free(&t.out);
            return NULL;
        }
    return text_finish(&t.out, err);
}

/* ---- compiling ---- */

static bool compile(Pattern *pattern, const char *translated, const char *where, Error *err) {
    int code = 0;
    PCRE2_SIZE offset = 0;
    pcre2_compile_context *context = pcre2_compile_context_create(NULL);
    if (!context) return fail(err, "%s: out of memory for a regex", where);
    pcre2_set_newline(context, PCRE2_NEWLINE_LF);
    pcre2_set_parens_nest_limit(context, 100);
    pattern->code =
        pcre2_compile((PCRE2_SPTR)translated, PCRE2_ZERO_TERMINATED, PCRE2_UTF | PCRE2_UCP, &code, &offset, context);
    pcre2_compile_context_free(context);
    if (!pattern->code) {
        char reason[128] = "";
        pcre2_get_error_message(code, (PCRE2_UCHAR *)reason, sizeof reason);
        return fail(err, "%s: the regex cannot be compiled: %s", where, reason);
    }
    pattern->limits = pcre2_match_context_create(NULL);
    if (!pattern->limits) return fail(err, "%s: out of memory for a regex", where);
    pcre2_set_match_limit(pattern->limits, MATCH_LIMIT);
    pcre2_set_heap_limit(pattern->limits, HEAP_LIMIT_KIB);
    pcre2_jit_compile(pattern->code, PCRE2_JIT_COMPLETE); /* without it matching is slower, not different */
    return true;
}

Pattern *pattern_regex(const char *regex, const char *where, Error *err) {
    if (strlen(regex) > PATTERN_LIMIT) {
        fail(err, "%s: the regex has %zu bytes; %d are allowed", where, strlen(regex), PATTERN_LIMIT);
        return NULL;
    }
    char *translated = translate(regex, where, err);
    Pattern *pattern = translated ? memory_new(1, sizeof *pattern, err) : NULL;
    if (pattern && !compile(pattern, translated, where, err)) {
        pattern_free(pattern);
        pattern = NULL;
    }
    free(translated);
    return pattern;
}

Pattern *pattern_literal(const char *literal, Error *err) {
    Pattern *pattern = memory_new(1, sizeof *pattern, err);
    if (!pattern) return NULL;
    pattern->literal = text_copy(literal, err);
    pattern->length = strlen(literal);
    if (pattern->literal) return pattern;
    pattern_free(pattern);
    return NULL;
}

void pattern_free(Pattern *pattern) {
    if (!pattern) return;
    free(pattern->literal);
    pcre2_code_free(pattern->code);
    pcre2_match_context_free(pattern->limits);
    free(pattern);
}

/* ---- finding ---- */

/* A match, and in *from what lay before it. */
static bool add_match(Cuts *cuts, size_t *from, size_t start, size_t end, Error *err) {
    if (start > *from && !cuts_add(cuts, *from, start, false, err)) return false;
    *from = end;
    return cuts_add(cuts, start, end, true, err);
}

static bool literal_cuts(const Pattern *pattern, const char *text, size_t length, Cuts *cuts, size_t *from,
                         Error *err) {
    const char *found;
    while (*from < length && (found = memmem(text + *from, length - *from, pattern->literal, pattern->length))) {
        size_t start = (size_t)(found - text);
        if (!add_match(cuts, from, start, start + pattern->length, err)) return false;
    }
    return true;
}

static int find(const Pattern *pattern, const char *text, size_t length, size_t from, pcre2_match_data *data) {
    int found = pcre2_match(pattern->code, (PCRE2_SPTR)text, length, from, PCRE2_NO_UTF_CHECK, data, pattern->limits);
    if (found == PCRE2_ERROR_JIT_STACKLIMIT)
        found = pcre2_match(pattern->code, (PCRE2_SPTR)text, length, from, PCRE2_NO_UTF_CHECK | PCRE2_NO_JIT, data,
                            pattern->limits);
    return found;
}

/* As Oniguruma's find_iter: an empty match right after another match does not count. */
static bool regex_cuts(const Pattern *pattern, const char *text, size_t length, pcre2_match_data *data, Cuts *cuts,
                       size_t *from, Error *err) {
    const PCRE2_SIZE *bounds = pcre2_get_ovector_pointer(data);
    size_t at = 0, last_end = SIZE_MAX;
    while (at <= length) {
        int found = find(pattern, text, length, at, data);
        if (found == PCRE2_ERROR_NOMATCH) return true;
        if (found < 0)
            return fail(err, "the tokenizer's regex gave up on a text of %zu bytes (%s)", length,
                        found == PCRE2_ERROR_MATCHLIMIT ? "too much backtracking" : "out of memory");
        if (bounds[0] == bounds[1] && bounds[1] == last_end) {
            size_t used = 1;
            if (at < length) utf8_next(text + at, length - at, &used);
            at += used;
            continue;
        }
        at = last_end = bounds[1];
        if (!add_match(cuts, from, bounds[0], bounds[1], err)) return false;
    }
    return true;
}

bool pattern_cuts(const Pattern *pattern, const char *text, size_t length, Cuts *cuts, Error *err) {
    size_t from = 0;
    bool done;
    cuts->count = 0;
    if (pattern->literal) {
        done = literal_cuts(pattern, text, length, cuts, &from, err);
    } else {
        pcre2_match_data *data = pcre2_match_data_create(1, NULL);
        done = data ? regex_cuts(pattern, text, length, data, cuts, &from, err)
                    : fail(err, "out of memory for a regex match");
        pcre2_match_data_free(data);
    }
    return done && (from == length || cuts_add(cuts, from, length, false, err));
}

bool pattern_replace(const Pattern *pattern, const char *content, const char *text, size_t length, Text *out,
                     Error *err) {
    Cuts cuts = {0};
    bool done = pattern_cuts(pattern, text, length, &cuts, err);
    for (size_t i = 0; done && i < cuts.count; i++) {
        const Cut *cut = &cuts.items[i];
        if (cut->match)
            text_add_string(out, content);
        else
            text_add(out, text + cut->start, cut->end - cut->start);
    }
    free(cuts.items);
    return done;
}
