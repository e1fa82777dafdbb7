/* Texts of any bytes made UTF-8, judged by jansson, which takes nothing else. */
#include "tests/test.h"

static bool valid(const char *text) {
    json_t *json = json_string(text);
    bool is_valid = json != NULL;
    json_decref(json);
    return is_valid;
}

static void every_short_text(void **state) {
    (void)state;
    int kept = 0;
    for (uint32_t bytes = 0; bytes < 1 << 24; bytes += bytes < 1 << 16 ? 1 : 61) {
        char text[] = {(char)(bytes >> 8), (char)bytes, (char)(bytes >> 16), 'x', 0}, made[sizeof text];
        memcpy(made, text, sizeof text);
        text_make_utf8(made);
        if (!valid(made)) fail_msg("%06x is still no UTF-8", bytes);
        if (strcmp(text, made) == 0) kept++;
        if (valid(text)) assert_string_equal(text, made);
    }
    assert_true(kept > 1 << 14);
}

static void four_bytes(void **state) {
    (void)state;
    static const char *const CASES[][2] = {{"\xF0\x9F\x98\x80", "\xF0\x9F\x98\x80"},
                                           {"\xF0\x9F\x98", "???"},
                                           {"\xF4\x90\x80\x80", "????"},
                                           {"\xF0\x80\x80\x80", "????"},
                                           {"\xED\xA0\x80", "???"},
                                           {"a\xC3", "a?"},
                                           {"\xF4\x8F\xBF\xBF", "\xF4\x8F\xBF\xBF"},
                                           {"", ""}};
    for (size_t i = 0; i < sizeof CASES / sizeof *CASES; i++) {
        char text[8];
        snprintf(text, sizeof text, "%s", CASES[i][0]);
        text_make_utf8(text);
        assert_string_equal(text, CASES[i][1]);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(every_short_text), cmocka_unit_test(four_bytes)};
    return cmocka_run_group_tests_name("memory", tests, NULL, NULL);
}
