/* A strict reader of the pages that the program writes: XML, and of it only the elements, attributes and entities that
 * they use. Whatever data smuggles in is a fault. */
#ifndef SEMOLLM_TESTS_DATA_PAGE_H
#define SEMOLLM_TESTS_DATA_PAGE_H

#include <stdbool.h>
#include <string.h>

static const char PAGE_ELEMENTS[] =
    " html head meta title style body header p h1 h2 h3 bdi dl div dt dd nav a main section table caption thead tbody "
    "tfoot tr th td i b em small strong span details summary figure figcaption svg path rect code article audio q "
    "blockquote footer script ";
static const char PAGE_ATTRIBUTES[] =
    " lang charset http-equiv content name class href id role tabindex aria-label aria-hidden scope colspan style "
    "viewBox preserveAspectRatio d y width height data-seconds controls preload src ";
static const char PAGE_ENTITIES[] = " &amp; &lt; &gt; &quot; &#39; ";

static inline size_t page_word(const char *at) { return strcspn(at, " \t\n/>=<\"&"); }

/* Whether a list with spaces around its words has this one. */
static inline bool page_known(const char *list, const char *word, size_t length) {
    for (const char *at = list; length && (at = strstr(at, " ")) && at[1]; at++)
        if (strncmp(at + 1, word, length) == 0 && at[1 + length] == ' ') return true;
    return false;
}

/* Moves over text up to one of the two characters; false at what must not stand in text. */
static inline bool page_text(const char **at, char end) {
    while (**at && **at != end) {
        if (**at == '<' || (**at == '>' && end == '<')) return false;
        size_t length = **at == '&' ? strcspn(*at, ";") + 1 : 1;
        if (**at == '&' && !page_known(PAGE_ENTITIES, *at, length)) return false;
        *at += length;
    }
    return **at == end;
}

/* Moves over ` name="value"`s. */
static inline bool page_attributes(const char **at) {
    while (**at == ' ') {
        ++*at;
        size_t length = page_word(*at);
        if (!page_known(PAGE_ATTRIBUTES, *at, length)) return false;
        *at += length;
        if (strncmp(*at, "=\"", 2) != 0) return false;
        *at += 2;
        if (!page_text(at, '"')) return false;
        ++*at;
    }
    return true;
}

/* Null, or where the page is not as it must be. */
static inline const char *page_fault(const char *page) {
    enum { DEPTH = 64 };
    const char *open[DEPTH], *at = page;
    size_t lengths[DEPTH], depth = 0;
    if (strncmp(at, "<!DOCTYPE html>\n", 16) != 0) return at;
    at += 16;
    do {
        const char *tag = at++;
        bool closing = *at == '/';
        at += closing;
        const char *name = at;
        size_t length = page_word(name);
        at += length;
        if (!page_known(PAGE_ELEMENTS, name, length)) return tag;
        if (closing) {
            if (!depth-- || lengths[depth] != length || strncmp(open[depth], name, length) != 0) return tag;
        } else {
            if (!page_attributes(&at)) return tag;
            bool empty = *at == '/';
            at += empty;
            if (!empty && depth == DEPTH) return tag;
            if (!empty) {
                open[depth] = name;
                lengths[depth++] = length;
            }
        }
        if (*at++ != '>') return tag;
        if (!closing && strncmp(tag, "<script>", 8) == 0) at = strstr(at, "</script>");
        if (!closing && strncmp(tag, "<style>", 7) == 0) at = strstr(at, "</style>");
        if (!at) return tag;
        if (depth && !page_text(&at, '<')) return at;
    } while (depth);
    return strcmp(at, "\n") == 0 ? NULL : at;
}

#endif
