#include <stdlib.h>
#include <string.h>

#include "model/tokenizer_internal.h"

static int compare_forms(const void *left, const void *right) {
    const AddedToken *a = *(const AddedToken *const *)left, *b = *(const AddedToken *const *)right;
    size_t shorter = a->form_length < b->form_length ? a->form_length : b->form_length;
    int order = memcmp(a->form, b->form, shorter);
    return order ? order : (a->form_length > b->form_length) - (a->form_length < b->form_length);
}

static bool sort_forms(const AddedToken **tokens, size_t count, Error *err) {
    qsort(tokens, count, sizeof *tokens, compare_forms);
    for (size_t i = 0; i < count; i++) {
        if (!tokens[i]->form_length)
            return fail(err, "added_tokens: the normalizer leaves nothing of \"%s\"", tokens[i]->content);
        if (i && compare_forms(&tokens[i - 1], &tokens[i]) == 0)
            return fail(err, "added_tokens: \"%s\" and \"%s\" cannot be told apart", tokens[i - 1]->content,
                        tokens[i]->content);
    }
    return true;
}

bool added_index(AddedTokens *added, Error *err) {
    added->plain = memory_new(added->count, sizeof *added->plain, err);
    added->normalized = memory_new(added->count, sizeof *added->normalized, err);
    if (!added->plain || !added->normalized) return false;
    for (size_t i = 0; i < added->count; i++) {
        const AddedToken *token = &added->items[i];
        if (token->normalized)
            added->normalized[added->normalized_count++] = token;
        else
            added->plain[added->plain_count++] = token;
    }
    return sort_forms(added->plain, added->plain_count, err) &&
           sort_forms(added->normalized, added->normalized_count, err);
}

void added_free(AddedTokens *added) {
    for (size_t i = 0; i < added->count; i++) {
        free(added->items[i].content);
        free(added->items[i].form);
    }
    free(added->items);
    free(added->plain);
    free(added->normalized);
    *added = (AddedTokens){0};
}

/* First token in low..high whose byte at `depth` is at least `byte`; those that end there come first. */
static size_t lower_bound(const AddedToken *const *tokens, size_t low, size_t high, size_t depth, int byte) {
    while (low < high) {
        size_t middle = (low + high) / 2;
        const AddedToken *token = tokens[middle];
        int found = token->form_length > depth ? (unsigned char)token->form[depth] : -1;
        if (found < byte)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

/* The longest token that stands at the start of `text`: the range of tokens that share the prefix read
 * so far narrows byte by byte. */
static const AddedToken *longest(const AddedToken *const *tokens, size_t count, const char *text, size_t length) {
    const AddedToken *best = NULL;
    size_t low = 0, high = count;
    for (size_t depth = 0; depth < length && low < high; depth++) {
        int byte = (unsigned char)text[depth];
        low = lower_bound(tokens, low, high, depth, byte);
        high = lower_bound(tokens, low, high, depth, byte + 1);
        if (low < high && tokens[low]->form_length == depth + 1) best = tokens[low];
    }
    return best;
}

static size_t space_before(const char *text, size_t end, size_t limit) {
    while (end > limit) {
        size_t start = end - 1, used;
        while (start > limit && ((unsigned char)text[start] & 0xC0) == 0x80) start--;
        if (!unicode_space(utf8_next(text + start, end - start, &used))) break;
        end = start;
    }
    return end;
}

static size_t space_after(const char *text, size_t start, size_t length) {
    size_t used;
    while (start < length && unicode_space(utf8_next(text + start, length - start, &used))) start += used;
    return start;
}

static bool within_word(const char *text, size_t length, size_t start, size_t end) {
    size_t before = start, used;
    if (before) before--;
    while (before && ((unsigned char)text[before] & 0xC0) == 0x80) before--;
    bool left = start && unicode_word(utf8_next(text + before, start - before, &used));
    return left || (end < length && unicode_word(utf8_next(text + end, length - end, &used)));
}

static bool add_match(const AddedToken *token, const char *text, size_t length, size_t at, size_t *claimed,
                      AddedMatches *matches, Error *err) {
    size_t start = at, end = at + token->form_length;
    if (token->single_word && within_word(text, length, start, end)) return true;
    if (token->lstrip) start = space_before(text, start, *claimed < start ? *claimed : start);
    if (token->rstrip) end = space_after(text, end, length);
    if (!memory_grow(&matches->items, matches->count, &matches->capacity, sizeof *matches->items, err)) return false;
    matches->items[matches->count++] = (AddedMatch){token, start, end};
    *claimed = end;
    return true;
}

bool added_find(const AddedToken *const *tokens, size_t count, const char *text, size_t length, const Spans *spans,
                AddedMatches *matches, Error *err) {
    bool leads[256] = {false};
    size_t claimed = 0;
    matches->count = 0;
    for (size_t i = 0; i < count; i++) leads[(unsigned char)tokens[i]->form[0]] = true;
    for (size_t s = 0; count && s < spans->count; s++) {
        size_t at = spans->items[s].start, end = spans->items[s].end;
        while (at < end) {
            const AddedToken *token =
                leads[(unsigned char)text[at]] ? longest(tokens, count, text + at, end - at) : NULL;
            if (token && !add_match(token, text, length, at, &claimed, matches, err)) return false;
            at += token ? token->form_length : 1;
        }
    }
    return true;
}
