/* Byte-pair encoding of one word, by a queue of candidate merges over a linked list of symbols. */
#include <stdlib.h>
#include <string.h>

#include "model/tokenizer_internal.h"
#include "model/unicode.h"

enum { NONE = -1 };

typedef struct Symbol {
    int32_t id; /* NONE: merged away */
    int32_t previous, next;
} Symbol;

typedef struct Candidate { /* a merge that was possible when it was queued */
    int32_t rank, at, made;
} Candidate;

typedef struct Word {
    Symbol *symbols;
    size_t count, capacity;
    Candidate *heap;
    size_t heap_count, heap_capacity;
} Word;

static bool add_symbol(Word *word, int32_t id, Error *err) {
    if (!memory_grow(&word->symbols, word->count, &word->capacity, sizeof *word->symbols, err)) return false;
    int32_t at = (int32_t)word->count++;
    word->symbols[at] = (Symbol){.id = id, .previous = at - 1, .next = at + 1};
    return true;
}

static bool before(const Candidate *a, const Candidate *b) {
    return a->rank < b->rank || (a->rank == b->rank && a->at < b->at);
}

static bool push(Word *word, Candidate candidate, Error *err) {
    if (!memory_grow(&word->heap, word->heap_count, &word->heap_capacity, sizeof *word->heap, err)) return false;
    size_t at = word->heap_count++;
    for (; at > 0 && before(&candidate, &word->heap[(at - 1) / 2]); at = (at - 1) / 2)
        word->heap[at] = word->heap[(at - 1) / 2];
    word->heap[at] = candidate;
    return true;
}

static Candidate pop(Word *word) {
    Candidate top = word->heap[0], last = word->heap[--word->heap_count];
    size_t at = 0, child;
    while ((child = 2 * at + 1) < word->heap_count) {
        if (child + 1 < word->heap_count && before(&word->heap[child + 1], &word->heap[child])) child++;
        if (!before(&word->heap[child], &last)) break;
        word->heap[at] = word->heap[child];
        at = child;
    }
    word->heap[at] = last;
    return top;
}

static bool queue_pair(const Tokenizer *tokenizer, Word *word, int32_t left, Error *err) {
    if (left < 0 || word->symbols[left].next >= (int32_t)word->count) return true;
    int32_t right = word->symbols[left].next;
    const Merge *merge = tokenizer_find_merge(tokenizer, word->symbols[left].id, word->symbols[right].id);
    return !merge || push(word, (Candidate){merge->rank, left, merge->made}, err);
}

static bool merge_all(const Tokenizer *tokenizer, Word *word, Error *err) {
    bool ok = true;
    for (size_t i = 0; ok && i + 1 < word->count; i++) ok = queue_pair(tokenizer, word, (int32_t)i, err);
    while (ok && word->heap_count > 0) {
        Candidate best = pop(word);
        Symbol *left = &word->symbols[best.at];
        if (left->id == NONE || left->next >= (int32_t)word->count) continue;
        Symbol *right = &word->symbols[left->next];
        const Merge *merge = tokenizer_find_merge(tokenizer, left->id, right->id);
        if (!merge || merge->made != best.made) continue; /* its symbols have changed since */
        left->id = merge->made;
        right->id = NONE;
        left->next = right->next;
        if (left->next < (int32_t)word->count) word->symbols[left->next].previous = best.at;
        ok = queue_pair(tokenizer, word, left->previous, err) && queue_pair(tokenizer, word, best.at, err);
    }
    return ok;
}

/* The characters of the word as symbols; those without a token as bytes, or as unknown (a run of them as
 * one where they fuse). As in tokenizers, an unknown waits until a character with a token follows. */
static bool split_characters(const Tokenizer *tokenizer, const char *text, size_t length, Word *word, Error *err) {
    bool ok = true, waiting = false;
    size_t used;
    for (size_t at = 0; ok && at < length; at += used) {
        utf8_next(text + at, length - at, &used);
        int32_t id = tokenizer_find(tokenizer, text + at, used);
        if (id >= 0) {
            if (waiting) ok = add_symbol(word, tokenizer->unknown, err);
            waiting = false;
            ok = ok && add_symbol(word, id, err);
            continue;
        }
        bool bytes = tokenizer->byte_fallback;
        for (size_t i = 0; bytes && i < used; i++) bytes = tokenizer->byte_ids[(unsigned char)text[at + i]] >= 0;
        for (size_t i = 0; ok && bytes && i < used; i++)
            ok = add_symbol(word, tokenizer->byte_ids[(unsigned char)text[at + i]], err);
        if (bytes || tokenizer->unknown < 0) continue;
        if (waiting && !tokenizer->fuse_unknown) ok = add_symbol(word, tokenizer->unknown, err);
        waiting = true;
    }
    return ok && (!waiting || add_symbol(word, tokenizer->unknown, err));
}

bool tokenizer_merge(const Tokenizer *tokenizer, const char *text, size_t length, Ids *ids, Error *err) {
    if (length == 0) return true;
    if (length > INT32_MAX / 2) return fail(err, "a word of %zu bytes is too long to tokenise", length);
    int32_t whole = tokenizer->ignore_merges ? tokenizer_find(tokenizer, text, length) : -1;
    if (whole >= 0) return ids_add(ids, whole, err);
    Word word = {0};
    bool ok = split_characters(tokenizer, text, length, &word, err) && merge_all(tokenizer, &word, err);
    for (size_t i = 0; ok && i < word.count; i++)
        if (word.symbols[i].id != NONE) ok = ids_add(ids, word.symbols[i].id, err);
    free(word.symbols);
    free(word.heap);
    return ok;
}
