/* A KV cache of several sequences: prompts in, tokens after them one by one. */
#include <stdlib.h>
#include <string.h>

#include "model/decoder_internal.h"
#include "model/transfer.h"

/* A step of so many rows, recorded when it is taken for the second time: the first may still choose algorithms. */
typedef struct StepGraph {
    int rows;
    int64_t longest; /* cached positions that it looks at */
    bool taken;
    DeviceGraph *graph; /* null: not recorded yet */
    const void *rope;   /* the table it was recorded with */
} StepGraph;

/* A step's longest, and its rows, are rounded up to a multiple, so that few graphs do. */
enum { GRAPH_POSITIONS = 128, GRAPH_ROWS = 8 };

struct DecoderSession {
    Decoder *decoder;
    int slots;
    int64_t capacity;
    void *memory;
    Acts acts;
    Cache cache;
    int64_t *length;           /* [slots], host */
    int32_t *cu, *rows;        /* [slots + 1], [slots]: the batch's tables */
    int32_t *tables, *staging; /* device block of the four below, and its host image */
    int32_t *slot, *lengths;   /* [tokens] each */
    int32_t *from, *to, *ids;  /* [slots] each */
    int64_t table_size;
    Tensor token, logit, log_sum; /* [1, slots] each, one block: what op_greedy says of the last rows of logits */
    void *choices;                /* its host image */
    StepGraph *graphs;
    size_t graph_count, graph_capacity;
    SessionUse use;
};

static DecoderLimits limits_of(int slots, int64_t capacity, int64_t prefill) {
    int64_t tokens = prefill > 0 ? prefill : capacity;
    if (tokens < slots) tokens = slots;
    return (DecoderLimits){.tokens = tokens, .segments = slots, .responses = slots};
}

/* Where steps are recorded there is a slot more, for rows that only fill a step up. */
static void take_caches(DecoderSession *session, Arena *arena) {
    Decoder *decoder = session->decoder;
    DType dtype = device_dtype(decoder->dev);
    int64_t slots = session->slots + device_records(decoder->dev), width = decoder->kv_width;
    int64_t rows = slots * session->capacity;
    for (int l = 0; l < decoder->config.layers; l++) {
        session->cache.k[l] = tensor_of(arena_take(arena, "cache.k", dtype, rows, width), dtype, rows, width);
        session->cache.v[l] = tensor_of(arena_take(arena, "cache.v", dtype, rows, width), dtype, rows, width);
    }
}

static void take_choices(DecoderSession *session, Arena *arena) {
    int64_t slots = session->slots;
    session->token = tensor_of(arena_take(arena, "session.choices", DTYPE_I32, 3, slots), DTYPE_I32, 1, slots);
    if (!tensor_present(session->token)) return;
    session->logit = tensor_of((int32_t *)session->token.data + slots, DTYPE_F32, 1, slots);
    session->log_sum = tensor_of((int32_t *)session->token.data + 2 * slots, DTYPE_F32, 1, slots);
}

static CacheCopyArgs copy_args(const DecoderSession *session, int count, int layer) {
    return (CacheCopyArgs){.from = session->from,
                           .to = session->to,
                           .length = session->lengths,
                           .count = count,
                           .capacity = session->capacity,
                           .k_cache = session->cache.k[layer],
                           .v_cache = session->cache.v[layer]};
}

static bool session_layout(DecoderSession *session, Arena *arena, const DecoderLimits *limits, Error *err) {
    if (!acts_layout(session->decoder, &session->acts, arena, limits, err)) return false;
    take_caches(session, arena);
    take_choices(session, arena);
    session->table_size = 2 * limits->tokens + 3 * session->slots;
    int32_t *at = session->tables = arena_take(arena, "session.tables", DTYPE_I32, 1, session->table_size);
    if (!at) return true;
    session->slot = at;
    session->lengths = session->slot + limits->tokens;
    session->from = session->lengths + limits->tokens;
    session->to = session->from + session->slots;
    session->ids = session->to + session->slots;
    session->cache.slot = session->slot;
    session->cache.length = session->lengths;
    return true;
}

static DecoderSession *session_new(Decoder *decoder, int slots, int64_t capacity, Error *err) {
    if (slots < 1 || capacity < 1 || capacity > INT32_MAX / slots) {
        fail(err, "a session of %d slots of %lld tokens cannot be made", slots, (long long)capacity);
        return NULL;
    }
    DecoderSession *session = memory_new(1, sizeof *session, err);
    if (!session) return NULL;
    *session = (DecoderSession){.decoder = decoder, .slots = slots, .capacity = capacity};
    size_t layers = (size_t)decoder->config.layers, count = (size_t)slots;
    session->cache.k = memory_new(layers, sizeof *session->cache.k, err);
    session->cache.v = memory_new(layers, sizeof *session->cache.v, err);
    session->length = memory_new(count, sizeof *session->length, err);
    session->cu = memory_new(count + 1, sizeof *session->cu, err);
    session->rows = memory_new(count, sizeof *session->rows, err);
    session->choices = memory_new(3 * count, sizeof(int32_t), err);
    session->cache.capacity = session->cache.longest = capacity;
    if (session->cache.k && session->cache.v && session->length && session->cu && session->rows && session->choices)
        return session;
    session_close(session);
    return NULL;
}

/* The first `n` of acts->logits, which are rows first .. first + n - 1 of what op_greedy is asked. */
static GreedyArgs greedy_args(const DecoderSession *session, int64_t first, int64_t n) {
    return (GreedyArgs){.logits = tensor_rows(session->acts.logits, 0, n),
                        .token = tensor_cols(session->token, first, n),
                        .logit = tensor_cols(session->logit, first, n),
                        .log_sum = tensor_cols(session->log_sum, first, n)};
}

/* Few rows may want more than many do, as more parts of each are then worked on at a time. */
static bool reserve_rows(DecoderSession *session, Error *err) {
    Decoder *decoder = session->decoder;
    bool ok = true;
    for (int rows = session->slots; ok && rows > 0; rows--) {
        GreedyArgs greedy = greedy_args(session, 0, rows < session->acts.chunk ? rows : session->acts.chunk);
        ok = acts_reserve_step(decoder, &session->acts, &session->cache, rows, err) &&
             device_reserve_scratch(decoder->dev, greedy_scratch(decoder->dev, &greedy), err);
    }
    return ok;
}

/* Scratch for prompts, for steps, for copies. */
static bool session_reserve(DecoderSession *session, Error *err) {
    Decoder *decoder = session->decoder;
    CacheCopyArgs copy = copy_args(session, session->slots, 0);
    session->cache.step = false;
    if (!acts_reserve(decoder, &session->acts, &session->cache, err)) return false;
    session->cache.step = true;
    return reserve_rows(session, err) &&
           device_reserve_scratch(decoder->dev, cache_copy_scratch(decoder->dev, &copy), err);
}

static bool session_commit(DecoderSession *session, const DecoderLimits *limits, Error *err) {
    Decoder *decoder = session->decoder;
    Arena arena = {.name = "generation"};
    bool ok = session_layout(session, &arena, limits, err) && arena_check(&arena, err);
    if (ok) {
        arena.size = arena.used;
        arena.base = session->memory = device_alloc(decoder->dev, arena.used, err);
        arena_reset(&arena);
        session->staging = memory_new((size_t)session->table_size, sizeof *session->staging, err);
        ok = session->memory && session->staging && session_layout(session, &arena, limits, err) &&
             arena_check(&arena, err) && decoder_positions(decoder, session->capacity, err) &&
             session_reserve(session, err);
    }
    arena_free(&arena);
    return ok;
}

DecoderSession *session_open(Decoder *decoder, int slots, int64_t capacity, int64_t prefill_tokens, Error *err) {
    DecoderSession *session = session_new(decoder, slots, capacity, err);
    DecoderLimits limits = limits_of(slots, capacity, prefill_tokens);
    if (session && session_commit(session, &limits, err)) return session;
    session_close(session);
    return NULL;
}

void session_forget_graphs(DecoderSession *session) {
    for (size_t i = 0; i < session->graph_count; i++)
        device_graph_free(session->decoder->dev, session->graphs[i].graph);
    session->graph_count = 0;
}

void session_close(DecoderSession *session) {
    if (!session) return;
    session_forget_graphs(session);
    free(session->graphs);
    acts_free(&session->acts);
    device_free(session->decoder->dev, session->memory);
    free(session->cache.k);
    free(session->cache.v);
    free(session->length);
    free(session->cu);
    free(session->rows);
    free(session->choices);
    free(session->staging);
    free(session);
}

size_t session_bytes(Decoder *decoder, int slots, int64_t capacity, int64_t prefill_tokens) {
    DecoderSession *session = session_new(decoder, slots, capacity, NULL);
    DecoderLimits limits = limits_of(slots, capacity, prefill_tokens);
    Arena arena = {.name = "generation"};
    size_t bytes = session && session_layout(session, &arena, &limits, NULL) && !arena.failed ? arena.used : SIZE_MAX;
    arena_free(&arena);
    session_close(session);
    return bytes;
}

Decoder *session_decoder(const DecoderSession *session) { return session->decoder; }
int session_slots(const DecoderSession *session) { return session->slots; }
int64_t session_capacity(const DecoderSession *session) { return session->capacity; }
int64_t session_length(const DecoderSession *session, int slot) { return session->length[slot]; }
SessionUse session_use(const DecoderSession *session) { return session->use; }

static int32_t *host_table(const DecoderSession *session, const int32_t *table) {
    return session->staging + (table - session->tables);
}

static bool upload_tables(DecoderSession *session, Error *err) {
    return device_upload(session->decoder->dev, session->tables, session->staging,
                         (size_t)session->table_size * sizeof *session->staging, err);
}

static bool check_slots(const DecoderSession *session, const int32_t *slot, int count, Error *err) {
    if (count < 1 || count > session->slots)
        return fail(err, "%d sequences were given to a session of %d slots", count, session->slots);
    for (int i = 0; i < count; i++)
        if (slot[i] < 0 || slot[i] >= session->slots)
            return fail(err, "slot %d of a session that has %d", slot[i], session->slots);
    return true;
}

/* ---- logits ---- */

static bool greedy(DecoderSession *session, int64_t first, int64_t n, Error *err) {
    GreedyArgs args = greedy_args(session, first, n);
    return op_greedy(session->decoder->dev, &args, err);
}

/* Of the `n` rows that left the layers, which are rows `first` and on of what was asked for. */
static bool rows_out(DecoderSession *session, int first, int64_t n, float *logits, Error *err) {
    Decoder *decoder = session->decoder;
    const Acts *acts = &session->acts;
    for (int64_t done = 0; done < n; done += acts->chunk) {
        int64_t some = n - done < acts->chunk ? n - done : acts->chunk;
        float *to = logits ? logits + done * decoder->config.vocab : NULL;
        if (!chunk_logits(decoder, acts, done, some, err) || !greedy(session, first + done, some, err) ||
            (to && !floats_download(decoder->dev, tensor_rows(acts->logits, 0, some), to, err)))
            return false;
    }
    return true;
}

static bool download_choices(DecoderSession *session, Error *err) {
    size_t bytes = 3 * (size_t)session->slots * sizeof(int32_t);
    return device_download(session->decoder->dev, session->choices, session->token.data, bytes, err);
}

Choices session_choices(const DecoderSession *session) {
    const int32_t *token = session->choices;
    const float *logit = (const float *)session->choices + session->slots;
    return (Choices){.token = token, .logit = logit, .log_sum = logit + session->slots};
}

/* ---- prompts ---- */

/* How many of the segments from `first` on enter together. */
static int group_of(const DecoderSession *session, const int32_t *cu, int first, int count) {
    int n = 0;
    while (first + n < count && cu[first + n + 1] - cu[first] <= session->acts.limits.tokens) n++;
    return n;
}

/* The prompts from number `first` on of those asked for. */
static bool prefill_group(DecoderSession *session, Tensor embeddings, const int32_t *cu, const int32_t *slot, int first,
                          int count, float *logits, Error *err) {
    DecoderBatch batch = {.count = count, .cu = session->cu, .responses = count, .rows = session->rows};
    int32_t *row_slot = host_table(session, session->slot);
    Pass pass;
    cu += first, slot += first;
    for (int i = 0; i <= count; i++) session->cu[i] = cu[i] - cu[0];
    for (int i = 0; i < count; i++) {
        session->rows[i] = session->cu[i + 1] - 1;
        session->length[slot[i]] = cu[i + 1] - cu[i];
        for (int32_t t = session->cu[i]; t < session->cu[i + 1]; t++) row_slot[t] = slot[i];
    }
    if (!upload_tables(session, err) || !acts_tables(session->decoder, &session->acts, &batch, &pass, err))
        return false;
    session->use.prefills++;
    session->cache.step = false;
    pass.cache = &session->cache;
    pass.input = tensor_rows(embeddings, cu[0], pass.n);
    return pass_forward(session->decoder, &session->acts, &pass, err) && rows_out(session, first, count, logits, err);
}

bool session_prefill(DecoderSession *session, Tensor embeddings, const int32_t *cu, const int32_t *slot, int count,
                     float *logits, Error *err) {
    if (!check_slots(session, slot, count, err)) return false;
    for (int i = 0; i < count; i++)
        if (cu[i + 1] - cu[i] < 1 || cu[i + 1] - cu[i] > session->capacity)
            return fail(err, "a prompt of %d tokens was given to a session for 1 to %lld", cu[i + 1] - cu[i],
                        (long long)session->capacity);
    for (int first = 0; first < count;) {
        int group = group_of(session, cu, first, count);
        if (group == 0)
            return fail(err, "a prompt has %d tokens; the session takes %lld at a time", cu[first + 1] - cu[first],
                        (long long)session->acts.limits.tokens);
        float *out = logits ? logits + (int64_t)first * session->decoder->config.vocab : NULL;
        if (!prefill_group(session, embeddings, cu, slot, first, group, out, err)) return false;
        first += group;
    }
    return download_choices(session, err);
}

/* ---- steps ---- */

static bool check_step(const DecoderSession *session, const int32_t *slot, const int32_t *token, int count,
                       Error *err) {
    if (!check_slots(session, slot, count, err)) return false;
    for (int i = 0; i < count; i++) {
        if (session->length[slot[i]] >= session->capacity)
            return fail(err, "slot %d is full: it holds %lld tokens", slot[i], (long long)session->capacity);
        if (token[i] < 0 || token[i] >= session->decoder->config.vocab)
            return fail(err, "token %d; expected an id from 0 to %d", token[i], session->decoder->config.vocab - 1);
    }
    return true;
}

/* How many rows a step of `count` sequences has: where steps are recorded, some that nobody asked for, too. */
static int step_rows(const DecoderSession *session, int count) {
    int rows = (count + GRAPH_ROWS - 1) / GRAPH_ROWS * GRAPH_ROWS;
    return !device_records(session->decoder->dev) ? count : rows < session->slots ? rows : session->slots;
}

/* Tables of one row a sequence, each at its own position; rows past `count` write to the spare slot and read its
 * first position. */
static bool step_tables(DecoderSession *session, const int32_t *slot, const int32_t *token, int count, Pass *pass,
                        Error *err) {
    const Acts *acts = &session->acts;
    int32_t *row_slot = host_table(session, session->slot), *length = host_table(session, session->lengths);
    int32_t *ids = host_table(session, session->ids), *position = acts->staging + (acts->position - acts->tables);
    const int rows = step_rows(session, count);
    DecoderBatch batch = {.count = rows, .cu = session->cu, .responses = rows, .rows = session->rows};
    for (int i = 0; i <= rows; i++) session->cu[i] = i;
    for (int i = 0; i < rows; i++) session->rows[i] = i;
    if (!acts_tables(session->decoder, acts, &batch, pass, err)) return false;
    session->cache.longest = 0;
    for (int i = 0; i < count; i++) {
        int64_t held = session->length[slot[i]]++;
        position[i] = (int32_t)held;
        length[i] = (int32_t)held + 1;
        row_slot[i] = slot[i];
        ids[i] = token[i];
        if (held + 1 > session->cache.longest) session->cache.longest = held + 1;
    }
    for (int i = count; i < rows; i++) {
        position[i] = (int32_t)((i - count) % session->capacity);
        length[i] = 1;
        row_slot[i] = session->slots;
        ids[i] = 0;
    }
    return device_upload(session->decoder->dev, acts->position, position, (size_t)rows * sizeof *position, err) &&
           upload_tables(session, err);
}

static bool run_step(DecoderSession *session, const Pass *pass, Error *err) {
    Decoder *decoder = session->decoder;
    return decoder_embed(decoder, session->ids, pass->input, err) && pass_forward(decoder, &session->acts, pass, err) &&
           chunk_logits(decoder, &session->acts, 0, pass->n, err) && greedy(session, 0, pass->n, err);
}

static StepGraph *find_graph(DecoderSession *session, int rows, int64_t longest, Error *err) {
    const void *rope = session->decoder->rope.data;
    if (session->graph_count && session->graphs[0].rope != rope) session_forget_graphs(session);
    for (size_t i = 0; i < session->graph_count; i++)
        if (session->graphs[i].rows == rows && session->graphs[i].longest == longest) return &session->graphs[i];
    if (!memory_grow(&session->graphs, session->graph_count, &session->graph_capacity, sizeof *session->graphs, err))
        return NULL;
    StepGraph *graph = &session->graphs[session->graph_count++];
    *graph = (StepGraph){.rows = rows, .longest = longest, .rope = rope};
    return graph;
}

/* Recorded or, for the first time, as it comes. */
static bool run_graph(DecoderSession *session, const Pass *pass, Error *err) {
    Device *dev = session->decoder->dev;
    int64_t longest = (session->cache.longest + GRAPH_POSITIONS - 1) / GRAPH_POSITIONS * GRAPH_POSITIONS;
    if (longest > session->capacity) longest = session->capacity;
    session->cache.longest = longest;
    StepGraph *step = find_graph(session, (int)pass->n, longest, err);
    if (!step) return false;
    if (!step->taken) {
        step->taken = true;
        return run_step(session, pass, err);
    }
    if (!step->graph) {
        if (!device_capture_begin(dev, err)) return false;
        bool ok = run_step(session, pass, err);
        step->graph = device_capture_end(dev, err);
        if (!ok || !step->graph) return false;
        session->use.recordings++;
    }
    return device_replay(dev, step->graph, err);
}

bool session_step(DecoderSession *session, const int32_t *slot, const int32_t *token, int count, float *logits,
                  Error *err) {
    Decoder *decoder = session->decoder;
    Pass pass;
    if (!check_step(session, slot, token, count, err) || !step_tables(session, slot, token, count, &pass, err))
        return false;
    session->use.steps++;
    session->cache.step = true;
    pass.cache = &session->cache;
    if (device_records(decoder->dev) && pass.n <= session->acts.chunk)
        return run_graph(session, &pass, err) && download_choices(session, err) &&
               (!logits || floats_download(decoder->dev, tensor_rows(session->acts.logits, 0, count), logits, err));
    return decoder_embed(decoder, session->ids, pass.input, err) && pass_forward(decoder, &session->acts, &pass, err) &&
           rows_out(session, 0, count, logits, err) && download_choices(session, err);
}

bool session_copy(DecoderSession *session, const int32_t *from, const int32_t *to, int count, Error *err) {
    if (count == 0) return true;
    if (!check_slots(session, from, count, err) || !check_slots(session, to, count, err)) return false;
    int32_t *length = host_table(session, session->lengths);
    memcpy(host_table(session, session->from), from, (size_t)count * sizeof *from);
    memcpy(host_table(session, session->to), to, (size_t)count * sizeof *to);
    for (int i = 0; i < count; i++) length[i] = (int32_t)session->length[from[i]];
    for (int i = 0; i < count; i++) session->length[to[i]] = length[i];
    if (!upload_tables(session, err)) return false;
    for (int l = 0; l < session->decoder->config.layers; l++) {
        CacheCopyArgs args = copy_args(session, count, l);
        if (!op_cache_copy(session->decoder->dev, &args, err)) return false;
    }
    return true;
}

void session_shorten(DecoderSession *session, int slot, int64_t length) {
    if (length < session->length[slot]) session->length[slot] = length;
}
