#include <stdlib.h>
#include <string.h>

#include "model/tokenizer_internal.h"

static bool normalize_once(const Normalizer *normalizer, bool continued, const Text *in, Text *out, Error *err) {
    switch (normalizer->kind) {
    case NORMALIZER_NFC:
        return unicode_nfc(in->data, in->length, out, err);
    case NORMALIZER_REPLACE:
        return pattern_replace(normalizer->pattern, normalizer->content, in->data, in->length, out, err);
    case NORMALIZER_PREPEND:
        if (in->length && !continued) text_add_string(out, normalizer->content);
        text_add(out, in->data, in->length);
        return true;
    }
    return true;
}

bool normalize(const Tokenizer *tokenizer, const char *text, size_t length, bool continued, Text *out, Error *err) {
    Text in = {0};
    bool done = true;
    out->length = 0;
    text_add(out, text, length);
    for (size_t i = 0; done && i < tokenizer->normalizer_count; i++) {
        Text last = *out;
        *out = in;
        in = last;
        out->length = 0;
        text_add(out, "", 0);
        done = normalize_once(&tokenizer->normalizers[i], continued, &in, out, err);
    }
    text_free(&in);
    if (done && out->failed) done = fail(err, "out of memory while normalizing a text of %zu bytes", length);
    return done;
}
