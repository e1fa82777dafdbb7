/* semollm logits: what the decoder says of every token of a text, for comparison with others. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/base.h"
#include "model/decoder.h"
#include "model/device_choice.h"
#include "model/safetensors.h"
#include "model/tokenizer.h"

typedef struct LogitsOptions {
    const char *ids, *text, *out, *adapter;
    DeviceChoice device;
} LogitsOptions;

static bool parse_ids(const char *text, Ids *ids, Error *err) {
    for (const char *at = text; *(at += strspn(at, " \t\n,"));) {
        char *end;
        errno = 0;
        long long value = strtoll(at, &end, 10);
        if (end == at || errno || value < 0 || value > INT32_MAX || !strchr(" \t\n,", *end))
            return fail_usage(err, "--ids: \"%.40s\" is not a list of token ids", at);
        if (!memory_grow(&ids->items, ids->count, &ids->capacity, sizeof *ids->items, err)) return false;
        ids->items[ids->count++] = (int32_t)value;
        at = end;
    }
    return true;
}

static bool read_ids(const LogitsOptions *options, const char *folder, Ids *ids, Error *err) {
    if (options->ids) return parse_ids(options->ids, ids, err);
    Tokenizer *tokenizer = tokenizer_open(folder, err);
    TextPiece piece = {.text = options->text, .length = strlen(options->text), .special = true};
    bool ok = tokenizer && tokenizer_encode(tokenizer, &piece, 1, ids, err);
    tokenizer_close(tokenizer);
    return ok;
}

static bool check_ids(const Ids *ids, int vocab, Error *err) {
    if (ids->count == 0) return fail_usage(err, "there are no tokens to compute logits of");
    for (size_t i = 0; i < ids->count; i++)
        if (ids->items[i] >= vocab)
            return fail_usage(err, "token %d is not one of the model's: ids go from 0 to %d", ids->items[i], vocab - 1);
    return true;
}

/* All rows of a single sequence, in memory laid out for just that. */
static bool forward(Device *dev, Decoder *decoder, const Ids *ids, float *logits, Error *err) {
    int32_t n = (int32_t)ids->count, cu[2] = {0, n};
    int32_t *rows = memory_new(ids->count, sizeof *rows, err), *table = NULL;
    DecoderLimits limits = {.tokens = n, .segments = 1, .responses = n};
    DecoderBatch batch = {.count = 1, .cu = cu, .responses = n, .rows = rows};
    Arena arena = {.name = "activations"};
    bool ok = rows && decoder_layout(decoder, &arena, &limits, err) && arena_check(&arena, err);
    for (int32_t i = 0; ok && i < n; i++) rows[i] = i;
    if (ok) {
        arena.size = arena.used;
        arena.base = device_alloc(dev, arena.used, err);
        table = device_alloc(dev, ids->count * sizeof *table, err);
        arena_reset(&arena);
        ok = arena.base && table && decoder_layout(decoder, &arena, &limits, err) &&
             device_upload(dev, table, ids->items, ids->count * sizeof *table, err) &&
             decoder_embed(decoder, table, decoder_input(decoder, n), err) && decoder_forward(decoder, &batch, err) &&
             decoder_logits(decoder, 0, n, logits, err);
    }
    device_free(dev, arena.base);
    device_free(dev, table);
    arena_free(&arena);
    free(rows);
    return ok;
}

static bool write_logits(const char *path, float *logits, int64_t tokens, int64_t vocab, Error *err) {
    StoredTensor tensor = {.name = "logits", .dtype = DTYPE_F32, .dims = 2, .shape = {tokens, vocab}, .data = logits};
    tensor.bytes = (size_t)(tokens * vocab) * sizeof *logits;
    return tensors_write(path, &tensor, 1, NULL, err);
}

static bool load_adapter(Device *dev, Decoder *decoder, const char *folder, Params *params, Error *err) {
    return !folder || (decoder_lora_declare_from(decoder, folder, 0, params, err) && params_commit(params, dev, err) &&
                       decoder_lora_load(decoder, folder, err));
}

static bool run(const LogitsOptions *options, const char *folder, Error *err) {
    Ids ids = {0};
    Params params = {0};
    Device *dev = device_choose(&options->device, err);
    Decoder *decoder = dev ? decoder_open(dev, folder, err) : NULL;
    int vocab = decoder ? decoder_config(decoder)->vocab : 0;
    float *logits = NULL;
    bool ok = decoder && read_ids(options, folder, &ids, err) && check_ids(&ids, vocab, err) &&
              load_adapter(dev, decoder, options->adapter, &params, err) &&
              (logits = memory_new(ids.count * (size_t)vocab, sizeof *logits, err)) &&
              forward(dev, decoder, &ids, logits, err) &&
              write_logits(options->out, logits, (int64_t)ids.count, vocab, err);
    free(logits);
    ids_free(&ids);
    decoder_close(decoder);
    params_free(&params);
    device_close(dev);
    return ok;
}

static bool check_options(const LogitsOptions *options, Error *err) {
    if (!options->out) return fail_usage(err, "logits: -o FILE is missing; see semollm logits --help");
    if (!options->ids == !options->text)
        return fail_usage(err, "logits: give either --ids or --text; see semollm logits --help");
    return true;
}

bool command_logits(int argc, char **argv, Error *err) {
    LogitsOptions options = {0};
    const Option table[] = {
        {"ids", 0, OPTION_TEXT, &options.ids, "IDS", "token ids, with spaces between them"},
        {"text", 0, OPTION_TEXT, &options.text, "TEXT", "text, tokenised by the folder's tokenizer.json"},
        {"out", 'o', OPTION_TEXT, &options.out, "FILE", "the safetensors file to write: logits [tokens, vocab]"},
        {"adapter", 0, OPTION_TEXT, &options.adapter, "DIR", "a PEFT LoRA adapter to put on the model"},
        DEVICE_OPTIONS(options.device),
        {0}};
    const Usage usage = {.command = "logits",
                         .arguments = "LLM_DIR",
                         .summary = "Writes the logits of a Llama, Qwen2 or Qwen3 model for every token of a text. No "
                                    "special token is added; those written in the text are recognised.",
                         .options = table,
                         .least = 1,
                         .most = 1};
    Texts arguments = {0};
    bool help = false;
    bool ok = options_parse(&usage, argc, argv, &arguments, &help, err);
    if (ok && !help) ok = check_options(&options, err) && run(&options, arguments.items[0], err);
    texts_free(&arguments);
    return ok;
}
