#include "data/html.h"

#include <inttypes.h>
#include <math.h>
#include <string.h>
#include <utf8proc.h>

/* Neither HTML nor XML may hold them: controls other than tab and line break, and noncharacters. */
static bool forbidden(utf8proc_int32_t c) {
    if (c < 0x20) return c != '\t' && c != '\n';
    return (c >= 0x7F && c < 0xA0) || (c >= 0xFDD0 && c <= 0xFDEF) || (c & 0xFFFE) == 0xFFFE;
}

static const char *entity(utf8proc_int32_t c) {
    switch (c) {
    case '&':
        return "&amp;";
    case '<':
        return "&lt;";
    case '>':
        return "&gt;";
    case '"':
        return "&quot;";
    case '\'':
        return "&#39;";
    default:
        return NULL;
    }
}

void html_text_most(FILE *out, const char *text, size_t most) {
    size_t left = text ? strlen(text) : 0;
    for (size_t written = 0; left; written++) {
        if (written == most) {
            fputs("…", out);
            return;
        }
        utf8proc_int32_t c;
        utf8proc_ssize_t used = utf8proc_iterate((const utf8proc_uint8_t *)text, (utf8proc_ssize_t)left, &c);
        if (used <= 0 || forbidden(c)) {
            fputs("\xEF\xBF\xBD", out);
        } else if (entity(c)) {
            fputs(entity(c), out);
        } else {
            fwrite(text, 1, (size_t)used, out);
        }
        size_t step = used > 0 ? (size_t)used : 1;
        text += step;
        left -= step;
    }
}

void html_text(FILE *out, const char *text) { html_text_most(out, text, SIZE_MAX); }

void html_count(FILE *out, int64_t count) {
    char digits[32];
    int length = snprintf(digits, sizeof digits, "%" PRId64, count);
    for (int i = 0; i < length; i++) {
        if (i && (length - i) % 3 == 0 && digits[i - 1] != '-') fputc(',', out);
        fputc(digits[i], out);
    }
}

void html_decimal(FILE *out, double value, int decimals) {
    if (!isfinite(value)) {
        fputs("–", out);
        return;
    }
    char digits[64];
    snprintf(digits, sizeof digits, fabs(value) < 1e9 ? "%.*f" : "%.*e", decimals, fabs(value));
    bool zero = strspn(digits, "0.") == strlen(digits);
    if (value < 0 && !zero) fputs("\u2212", out);
    fputs(digits, out);
}

void html_base64(FILE *out, const unsigned char *data, size_t size) {
    static const char DIGITS[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    for (size_t i = 0; i < size; i += 3) {
        size_t count = size - i < 3 ? size - i : 3;
        uint32_t word = (uint32_t)data[i] << 16;
        if (count > 1) word |= (uint32_t)data[i + 1] << 8;
        if (count > 2) word |= data[i + 2];
        for (size_t k = 0; k < 4; k++) fputc(k <= count ? DIGITS[word >> (18 - 6 * k) & 63] : '=', out);
    }
}
