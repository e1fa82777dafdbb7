#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

#include "model/tokenizer_internal.h"

/* ---- tables ---- */

static size_t power_above(size_t count) {
    size_t size = 16;
    while (size < 2 * count) size *= 2;
    return size;
}

bool bpe_reserve(Bpe *bpe, size_t tokens, size_t merges, Error *err) {
    size_t slots = power_above(tokens), rules = power_above(merges);
    bpe->slots = memory_new(slots, sizeof *bpe->slots, err);
    bpe->rules = memory_new(rules, sizeof *bpe->rules, err);
    if (!bpe->slots || !bpe->rules) return false;
    memset(bpe->slots, 0xFF, slots * sizeof *bpe->slots);
    for (size_t i = 0; i < rules; i++) bpe->rules[i].rank = UINT32_MAX;
    bpe->slot_mask = slots - 1;
    bpe->rule_mask = rules - 1;
    return true;
}

static size_t slot_of(const Bpe *bpe, const char *text, size_t length) {
    size_t slot = XXH3_64bits(text, length) & bpe->slot_mask;
    for (; bpe->slots[slot] >= 0; slot = (slot + 1) & bpe->slot_mask) {
        const VocabItem *item = &bpe->items[bpe->slots[slot]];
        if (item->length == length && memcmp(item->text, text, length) == 0) break;
    }
    return slot;
}

int32_t bpe_id(const Bpe *bpe, const char *text, size_t length) { return bpe->slots[slot_of(bpe, text, length)]; }

bool bpe_add(Bpe *bpe, const char *text, int64_t id, Error *err) {
    while (bpe->item_count <= (size_t)id) {
        if (!memory_grow(&bpe->items, bpe->item_count, &bpe->item_capacity, sizeof *bpe->items, err)) return false;
        bpe->items[bpe->item_count++] = (VocabItem){0};
    }
    VocabItem *item = &bpe->items[id];
    if (item->text)
        return fail(err, "model.vocab: id %lld stands for \"%s\" and for \"%s\"", (long long)id, item->text, text);
    size_t slot = slot_of(bpe, text, strlen(text));
    if (bpe->slots[slot] >= 0) return fail(err, "model.vocab: \"%s\" stands there twice", text);
    if (!(item->text = text_copy(text, err))) return false;
    item->length = strlen(text);
    bpe->slots[slot] = (int32_t)id;
    return true;
}

/* The rule of a pair, or the free slot where it would be. */
static MergeRule *rule_of(const Bpe *bpe, int32_t left, int32_t right) {
    uint64_t pair = (uint64_t)(uint32_t)left << 32 | (uint32_t)right;
    uint64_t hash = pair * 0x9E3779B97F4A7C15u;
    size_t slot = (size_t)(hash ^ hash >> 32) & bpe->rule_mask;
    while (bpe->rules[slot].rank != UINT32_MAX && bpe->rules[slot].pair != pair) slot = (slot + 1) & bpe->rule_mask;
    return &bpe->rules[slot];
}

bool bpe_add_merge(Bpe *bpe, const char *left, size_t left_length, const char *right, size_t right_length,
                   uint32_t rank, Error *err) {
    char *joined = memory_new(left_length + right_length + 1, 1, err);
    if (!joined) return false;
    memcpy(joined, left, left_length);
    memcpy(joined + left_length, right, right_length);
    int32_t a = bpe_id(bpe, left, left_length), b = bpe_id(bpe, right, right_length);
    int32_t result = bpe_id(bpe, joined, left_length + right_length);
    bool known = a >= 0 && b >= 0 && result >= 0;
    if (known) { /* the last of equal pairs counts, as in tokenizers */
        MergeRule *rule = rule_of(bpe, a, b);
        *rule = (MergeRule){(uint64_t)(uint32_t)a << 32 | (uint32_t)b, rank, result};
    } else {
        fail(err, "model.merges[%u] names \"%.*s\", which is not in model.vocab", rank,
             (int)(a < 0   ? left_length
                   : b < 0 ? right_length
                           : left_length + right_length),
             a < 0   ? left
             : b < 0 ? right
                     : joined);
    }
    free(joined);
    return known;
}

void bpe_finish(Bpe *bpe) {
    Text letter = {0};
    bpe->letters[0] = -1;
    for (int32_t c = 1; c < (int32_t)(sizeof bpe->letters / sizeof *bpe->letters); c++) {
        letter.length = 0;
        utf8_add(&letter, c);
        bpe->letters[c] = letter.failed ? -1 : bpe_id(bpe, letter.data, letter.length);
    }
    for (unsigned byte = 0; byte < 256; byte++) {
        letter.length = 0;
        text_addf(&letter, "<0x%02X>", byte);
        bpe->bytes[byte] = letter.failed ? -1 : bpe_id(bpe, letter.data, letter.length);
    }
    text_free(&letter);
}

void bpe_free(Bpe *bpe) {
    for (size_t i = 0; i < bpe->item_count; i++) free(bpe->items[i].text);
    free(bpe->items);
    free(bpe->slots);
    free(bpe->rules);
    *bpe = (Bpe){0};
}

/* ---- characters to symbols ---- */

typedef struct Unknown { /* an unknown token held back, so that more can be fused into it */
    bool held;
    uint32_t length;
} Unknown;

static bool add_symbol(BpeWork *work, int32_t id, uint32_t length, Error *err) {
    if (!memory_grow(&work->symbols, work->symbol_count, &work->symbol_capacity, sizeof *work->symbols, err))
        return false;
    int32_t place = (int32_t)work->symbol_count++;
    work->symbols[place] = (BpeSymbol){id, place - 1, place + 1, length};
    return true;
}

static bool release_unknown(const Bpe *bpe, BpeWork *work, Unknown *unknown, Error *err) {
    if (!unknown->held) return true;
    unknown->held = false;
    return add_symbol(work, bpe->unknown, unknown->length, err);
}

static bool add_bytes(const Bpe *bpe, BpeWork *work, const char *text, size_t count, bool *added, Error *err) {
    *added = false;
    for (size_t i = 0; i < count; i++)
        if (bpe->bytes[(unsigned char)text[i]] < 0) return true;
    for (size_t i = 0; i < count; i++)
        if (!add_symbol(work, bpe->bytes[(unsigned char)text[i]], 1, err)) return false;
    *added = true;
    return true;
}

static bool add_unknown(const Bpe *bpe, BpeWork *work, size_t length, Unknown *unknown, Error *err) {
    if (!bpe->has_unknown) return true; /* as in tokenizers, the character vanishes */
    if (unknown->held && bpe->fuse_unknown) {
        unknown->length += (uint32_t)length;
        return true;
    }
    if (!release_unknown(bpe, work, unknown, err)) return false;
    *unknown = (Unknown){true, (uint32_t)length};
    return true;
}

static bool add_characters(const Bpe *bpe, BpeWork *work, const char *text, size_t length, Error *err) {
    Unknown unknown = {0};
    size_t used;
    for (size_t at = 0; at < length; at += used) {
        int32_t c = utf8_next(text + at, length - at, &used);
        bool tabled = c > 0 && (size_t)c < sizeof bpe->letters / sizeof *bpe->letters, added = false;
        int32_t id = tabled ? bpe->letters[c] : bpe_id(bpe, text + at, used);
        if (id >= 0) {
            if (!release_unknown(bpe, work, &unknown, err) || !add_symbol(work, id, (uint32_t)used, err)) return false;
            continue;
        }
        if (bpe->byte_fallback && !add_bytes(bpe, work, text + at, used, &added, err)) return false;
        if (!added && !add_unknown(bpe, work, used, &unknown, err)) return false;
    }
    return release_unknown(bpe, work, &unknown, err);
}

/* ---- merging: a heap of possible merges over a linked list, lowest rank first, then leftmost ---- */

static bool before(const BpeMerge *a, const BpeMerge *b) {
    return a->rank != b->rank ? a->rank < b->rank : a->place < b->place;
}

static bool heap_push(BpeWork *work, BpeMerge merge, Error *err) {
    if (!memory_grow(&work->heap, work->heap_count, &work->heap_capacity, sizeof *work->heap, err)) return false;
    size_t at = work->heap_count++;
    while (at && before(&merge, &work->heap[(at - 1) / 2])) {
        work->heap[at] = work->heap[(at - 1) / 2];
        at = (at - 1) / 2;
    }
    work->heap[at] = merge;
    return true;
}

static BpeMerge heap_pop(BpeWork *work) {
    BpeMerge top = work->heap[0], last = work->heap[--work->heap_count];
    size_t at = 0, child;
    while ((child = 2 * at + 1) < work->heap_count) {
        if (child + 1 < work->heap_count && before(&work->heap[child + 1], &work->heap[child])) child++;
        if (!before(&work->heap[child], &last)) break;
        work->heap[at] = work->heap[child];
        at = child;
    }
    work->heap[at] = last;
    return top;
}

static bool push_pair(const Bpe *bpe, BpeWork *work, int32_t left, int32_t right, Error *err) {
    const MergeRule *rule = rule_of(bpe, work->symbols[left].id, work->symbols[right].id);
    if (rule->rank == UINT32_MAX) return true;
    return heap_push(work, (BpeMerge){rule->rank, (uint32_t)left, rule->result}, err);
}

static bool apply(const Bpe *bpe, BpeWork *work, BpeMerge merge, Error *err) {
    BpeSymbol *symbols = work->symbols, *left = &symbols[merge.place];
    int32_t count = (int32_t)work->symbol_count;
    if (!left->length || left->next >= count) return true;
    BpeSymbol *right = &symbols[left->next];
    const MergeRule *rule = rule_of(bpe, left->id, right->id);
    if (rule->rank == UINT32_MAX || rule->result != merge.result) return true; /* one of the two has changed since */
    left->id = merge.result;
    left->length += right->length;
    left->next = right->next;
    right->length = 0;
    if (left->next < count) symbols[left->next].previous = (int32_t)merge.place;
    if (left->previous >= 0 && !push_pair(bpe, work, left->previous, (int32_t)merge.place, err)) return false;
    return left->next >= count || push_pair(bpe, work, (int32_t)merge.place, left->next, err);
}

static bool merge_all(const Bpe *bpe, BpeWork *work, Error *err) {
    work->heap_count = 0;
    for (size_t i = 0; i + 1 < work->symbol_count; i++)
        if (!push_pair(bpe, work, (int32_t)i, (int32_t)i + 1, err)) return false;
    while (work->heap_count)
        if (!apply(bpe, work, heap_pop(work), err)) return false;
    return true;
}

static bool add_id(Ids *ids, int32_t id, Error *err) {
    if (!memory_grow(&ids->items, ids->count, &ids->capacity, sizeof *ids->items, err)) return false;
    ids->items[ids->count++] = id;
    return true;
}

bool bpe_encode(const Bpe *bpe, BpeWork *work, const char *text, size_t length, Ids *ids, Error *err) {
    if (length > INT32_MAX / 2) return fail(err, "a stretch of %zu bytes without a break is too long", length);
    int32_t whole = bpe->ignore_merges ? bpe_id(bpe, text, length) : -1;
    if (whole >= 0) return add_id(ids, whole, err);
    work->symbol_count = 0;
    if (!add_characters(bpe, work, text, length, err) || !merge_all(bpe, work, err)) return false;
    for (size_t i = 0; i < work->symbol_count; i++)
        if (work->symbols[i].length && !add_id(ids, work->symbols[i].id, err)) return false;
    return true;
}

void bpe_work_free(BpeWork *work) {
    free(work->symbols);
    free(work->heap);
    *work = (BpeWork){0};
}
