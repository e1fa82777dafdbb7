/* Fixtures of tests/oracle/tokenizer.py: zstd files, and tokenizers made of them in a temporary folder. */
#ifndef SEMOLLM_TESTS_TOKENIZER_FIXTURE_H
#define SEMOLLM_TESTS_TOKENIZER_FIXTURE_H

#include "tests/test.h"

#include <unistd.h>
#include <zstd.h>

#include "model/tokenizer.h"
#include "model/unicode.h"

static inline unsigned char *fixture_read(const char *name, size_t *size) {
    char path[128];
    snprintf(path, sizeof path, "tests/fixtures/tokenizer/%s.zst", name);
    Error err = {0};
    size_t packed_size;
    char *packed = file_read(path, 64 << 20, &packed_size, &err);
    assert_non_null(packed);
    size_t room = (size_t)ZSTD_getFrameContentSize(packed, packed_size);
    if (room > (size_t)1 << 28) room = (size_t)1 << 26; /* written from a pipe: the size is not in the frame */
    unsigned char *data = malloc(room + 1);
    assert_non_null(data);
    *size = ZSTD_decompress(data, room, packed, packed_size);
    assert_false(ZSTD_isError(*size));
    data[*size] = '\0';
    free(packed);
    return data;
}

/* Opens a tokenizer from the text of its tokenizer.json. */
static inline Tokenizer *fixture_open_text(const void *json, size_t size, Error *err) {
    char folder[] = "/tmp/semollm-tokenizer-XXXXXX", path[64];
    assert_non_null(mkdtemp(folder));
    snprintf(path, sizeof path, "%s/tokenizer.json", folder);
    FILE *file = fopen(path, "wb");
    assert_non_null(file);
    assert_int_equal(fwrite(json, 1, size, file), size);
    assert_int_equal(fclose(file), 0);
    Tokenizer *tokenizer = tokenizer_open(folder, err);
    unlink(path);
    rmdir(folder);
    return tokenizer;
}

static inline Tokenizer *fixture_open(const char *name) {
    char json_name[64];
    snprintf(json_name, sizeof json_name, "%s.json", name);
    size_t size;
    unsigned char *json = fixture_read(json_name, &size);
    Error err = {0};
    Tokenizer *tokenizer = fixture_open_text(json, size, &err);
    if (!tokenizer) fail_msg("%s: %s", name, err.text);
    free(json);
    return tokenizer;
}

#endif
