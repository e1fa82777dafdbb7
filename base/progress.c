#include "base/progress.h"

#include <inttypes.h>
#include <stdio.h>
#include <time.h>
#include <unistd.h>

double clock_seconds(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + 1e-9 * (double)now.tv_nsec;
}

void progress_begin(Progress *progress, const char *label, const char *unit, int64_t first, int64_t total) {
    *progress = (Progress){.label = label, .unit = unit, .first = first, .done = first, .total = total};
    progress->began = progress->drawn = clock_seconds();
    progress->terminal = isatty(STDERR_FILENO);
}

static void duration_text(double seconds, char *text, size_t size) {
    int64_t whole = (int64_t)(seconds + 0.5);
    if (whole >= 3600)
        snprintf(text, size, "%" PRId64 ":%02d:%02d", whole / 3600, (int)(whole / 60 % 60), (int)(whole % 60));
    else
        snprintf(text, size, "%d:%02d", (int)(whole / 60), (int)(whole % 60));
}

static void draw(Progress *progress, double now, const char *note) {
    enum { WIDTH = 24 };
    char bar[WIDTH + 1], eta[32] = "?";
    int filled = progress->total > 0 ? (int)(WIDTH * progress->done / progress->total) : 0;
    for (int i = 0; i < WIDTH; i++) bar[i] = i < filled ? '#' : '.';
    bar[WIDTH] = '\0';
    double elapsed = now - progress->began, made = (double)(progress->done - progress->first);
    double rate = elapsed > 0 ? made / elapsed : 0;
    if (rate > 0) duration_text((double)(progress->total - progress->done) / rate, eta, sizeof eta);
    const char *lead = progress->terminal ? "\r" : "", *tail = progress->terminal ? "\033[K" : "\n";
    fprintf(stderr, "%s%s [%s] %" PRId64 "/%" PRId64 " %s, %.*f/s, ETA %s%s%s%s", lead, progress->label, bar,
            progress->done, progress->total, progress->unit, rate < 10 ? 2 : 0, rate, eta, note ? ", " : "",
            note ? note : "", tail);
    fflush(stderr);
    progress->drawn = now;
}

void progress_update(Progress *progress, int64_t done, const char *note) {
    progress->done = done;
    if (progress->quiet) return;
    double now = clock_seconds();
    if (now - progress->drawn >= (progress->terminal ? 0.1 : 10.0)) draw(progress, now, note);
}

void progress_end(Progress *progress) {
    if (progress->quiet) return;
    char took[32];
    double now = clock_seconds();
    duration_text(now - progress->began, took, sizeof took);
    const char *lead = progress->terminal ? "\r" : "", *clear = progress->terminal ? "\033[K" : "";
    fprintf(stderr, "%s%s: %" PRId64 "/%" PRId64 " %s in %s%s\n", lead, progress->label, progress->done,
            progress->total, progress->unit, took, clear);
}
