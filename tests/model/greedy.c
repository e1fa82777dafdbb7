/* greedy LLM_DIR [MAX_NEW] < prompts: each line of token ids is answered by a line of those that greedy
 * search puts after them (no token ends an answer), all prompts in one batch. For comparison with other
 * implementations. */
#include <stdlib.h>
#include <string.h>

#include "base/base.h"
#include "model/decoder.h"

enum { PROMPTS_MOST = 256 };

typedef struct Lines {
    int32_t *ids, cu[PROMPTS_MOST + 1];
    size_t capacity;
    int count;
} Lines;

static bool read_lines(Lines *lines, int vocab, Error *err) {
    char *line = NULL;
    size_t size = 0;
    bool ok = true;
    while (ok && lines->count < PROMPTS_MOST && getline(&line, &size, stdin) > 0) {
        int32_t n = lines->cu[lines->count];
        for (char *word = strtok(line, " \n"); ok && word; word = strtok(NULL, " \n")) {
            ok = memory_grow(&lines->ids, (size_t)n, &lines->capacity, sizeof *lines->ids, err);
            if (ok) lines->ids[n++] = (int32_t)strtol(word, NULL, 10);
            if (ok && (lines->ids[n - 1] < 0 || lines->ids[n - 1] >= vocab)) ok = fail(err, "no such id: %s", word);
        }
        lines->cu[++lines->count] = n;
    }
    free(line);
    return ok;
}

static bool answer(Device *dev, Decoder *decoder, const Lines *lines, int max_new, Generated *results, Error *err) {
    const DecoderConfig *config = decoder_config(decoder);
    int32_t n = lines->cu[lines->count], longest = 0;
    for (int i = 0; i < lines->count; i++)
        if (lines->cu[i + 1] - lines->cu[i] > longest) longest = lines->cu[i + 1] - lines->cu[i];
    GenerateOptions options = generate_options_default();
    options.max_new = max_new;
    size_t table = (size_t)n * sizeof *lines->ids;
    void *ids = device_alloc(dev, table, err);
    Tensor rows =
        tensor_of(device_alloc(dev, table * (size_t)config->hidden, err), device_dtype(dev), n, config->hidden);
    Prompts prompts = {.embeddings = rows, .count = lines->count, .cu = lines->cu};
    DecoderSession *session = session_open(decoder, lines->count, longest + max_new, 0, err);
    double start = clock_seconds();
    bool ok = ids && rows.data && session && device_upload(dev, ids, lines->ids, table, err) &&
              decoder_embed(decoder, ids, rows, err) && generate(session, &prompts, &options, results, err);
    fprintf(stderr, "%.2f s\n", clock_seconds() - start);
    session_close(session);
    device_free(dev, rows.data);
    device_free(dev, ids);
    return ok;
}

int main(int argc, char **argv) {
    Error err = {0};
    Lines lines = {0};
    Generated results[PROMPTS_MOST] = {0};
    Device *dev = argc > 1 ? device_open(DEVICE_CPU, 0, &err) : NULL;
    Decoder *decoder = dev ? decoder_open(dev, argv[1], &err) : NULL;
    bool ok = decoder && read_lines(&lines, decoder_config(decoder)->vocab, &err) &&
              answer(dev, decoder, &lines, argc > 2 ? atoi(argv[2]) : 64, results, &err);
    for (int i = 0; ok && i < lines.count; i++)
        for (int t = 0; t <= results[i].count; t++)
            if (t == results[i].count)
                printf("\n");
            else
                printf("%s%d", t ? " " : "", results[i].ids[t]);
    if (!ok) fprintf(stderr, "greedy: %s\n", argc > 1 ? err.text : "usage: greedy LLM_DIR [MAX_NEW] < PROMPTS");
    generated_free(results, PROMPTS_MOST);
    decoder_close(decoder);
    device_close(dev);
    free(lines.ids);
    return ok ? EXIT_DONE : EXIT_FAILED;
}
