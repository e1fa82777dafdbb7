/* Sample cards: what is heard, measured and said of an utterance. Waveform, F0 and intensity share a time axis; scales
 * of F0 and intensity are the same on every card. */
#include <math.h>
#include <string.h>

#include "data/html.h"
#include "data/report.h"

enum { TICKS = 3 };
enum { TEXT_MOST = 1200, NAME_MOST = 120 }; /* characters of free text and of names that a card has room for */

/* --- scales --- */

typedef struct Scale {
    double low, high;
    bool logarithmic;
    double ticks[TICKS];
    const double *band; /* cut points around the normal level; null: none */
} Scale;

static double height(const Scale *scale, double value) {
    double share = scale->logarithmic ? log(value / scale->low) / log(scale->high / scale->low)
                                      : (value - scale->low) / (scale->high - scale->low);
    return 100 - 100 * fmin(fmax(share, 0), 1);
}

/* 60 dB down from the loudest frame of all cards, rounded up to tens. */
static Scale intensity_scale(const DataReport *report) {
    double loudest = 0;
    for (size_t i = 0; i < report->card_count; i++)
        for (int64_t frame = 0; frame < report->cards[i].track.intensity_count; frame++)
            loudest = fmax(loudest, report->cards[i].track.intensity[frame]);
    double high = loudest > 0 ? 10 * ceil(loudest / 10) : 90;
    return (Scale){.low = high - 60, .high = high, .ticks = {high - 50, high - 30, high - 10}};
}

/* The cut points that an utterance was judged by; null where it has no level. */
static const double *judging_cuts(const DataReport *report, const Card *card, Cue cue) {
    if (report->levels[card->index].level[cue] == LEVEL_NONE) return NULL;
    return cut_points_of(report->cuts, cue, report->set.utterances[card->index], NULL);
}

static const double *normal_band(const DataReport *report, const Card *card, Cue cue) {
    const double *cuts = judging_cuts(report, card, cue);
    return cuts ? cuts + (report->level_count - 3) / 2 : NULL;
}

/* --- lanes --- */

static double across(const Card *card, double seconds) { return fmin(fmax(1000 * seconds / card->seconds, 0), 1000); }

static void open_lane(const char *kind, const char *title, FILE *out) {
    fprintf(out,
            "<div class=\"lane %s\"><small>%s</small><svg viewBox=\"0 0 1000 100\" preserveAspectRatio=\"none\" "
            "aria-hidden=\"true\">",
            kind, title);
}

/* What lies behind a contour: the normal level's band, lines at the ticks, and the measure that is judged. */
static void draw_ground(const Scale *scale, double measure, FILE *out) {
    if (scale->band) {
        double top = height(scale, scale->band[1]), bottom = height(scale, scale->band[0]);
        fprintf(out, "<rect class=\"normal\" y=\"%.1f\" width=\"1000\" height=\"%.1f\"/>", top, bottom - top);
    }
    for (int i = 0; i < TICKS; i++)
        fprintf(out, "<path class=\"grid\" d=\"M0 %.1fH1000\"/>", height(scale, scale->ticks[i]));
    if (isfinite(measure)) fprintf(out, "<path class=\"measure\" d=\"M0 %.1fH1000\"/>", height(scale, measure));
}

static void close_lane(const Scale *scale, FILE *out) {
    fputs("</svg>", out);
    for (int i = 0; i < TICKS; i++)
        fprintf(out, "<i style=\"top:%.1f%%\">%.0f</i>", height(scale, scale->ticks[i]), scale->ticks[i]);
    fputs("</div>\n", out);
}

static void draw_wave(const Card *card, FILE *out) {
    float peak = 0;
    for (int i = 0; i < card->columns; i++) peak = fmaxf(peak, fmaxf(card->high[i], -card->low[i]));
    open_lane("wave", peak > 0 ? "waveform" : "waveform: silence", out);
    double scale = peak > 0 ? 48 / (double)peak : 0, width = 1000.0 / card->columns;
    fputs("<path d=\"", out);
    for (int i = 0; i < card->columns; i++)
        fprintf(out, "%s%.1f %.1f", i ? "L" : "M", (i + 0.5) * width, 50 - scale * (double)card->high[i]);
    for (int i = card->columns; i-- > 0;)
        fprintf(out, "L%.1f %.1f", (i + 0.5) * width, 50 - scale * (double)card->low[i]);
    fputs("Z\"/></svg>", out);
    if (peak > 0) fprintf(out, "<i style=\"top:50%%\">±%.2g</i>", (double)peak);
    fputs("</div>\n", out);
}

/* Voiced stretches as lines, a frame alone as a dot. */
static void draw_pitch(const Card *card, const double *band, FILE *out) {
    FeatureOptions options = feature_options_default();
    Scale scale = {options.f0_floor_hz, options.f0_ceiling_hz, true, {100, 200, 400}, band};
    open_lane("pitch", "F0, Hz", out);
    draw_ground(&scale, card->features.value[FEATURE_F0_MEDIAN_HZ], out);
    fputs("<path class=\"contour\" d=\"", out);
    bool voiced = false;
    for (int64_t i = 0; i < card->track.f0_count; i++) {
        double hz = card->track.f0[i], x = across(card, card->track.f0_start + (double)i * card->track.f0_step);
        if (hz > 0) fprintf(out, "%s%.1f %.1f%s", voiced ? "L" : "M", x, height(&scale, hz), voiced ? "" : "h.01");
        voiced = hz > 0;
    }
    fputs("\"/>", out);
    close_lane(&scale, out);
}

static void draw_intensity(const Card *card, Scale scale, const double *band, FILE *out) {
    scale.band = band;
    open_lane("loud", "intensity, dB", out);
    draw_ground(&scale, card->features.value[FEATURE_INTENSITY_MEAN_DB], out);
    fputs("<path class=\"contour\" d=\"", out);
    for (int64_t i = 0; i < card->track.intensity_count; i++)
        fprintf(out, "%s%.1f %.1f", i ? "L" : "M",
                across(card, card->track.intensity_start + (double)i * card->track.intensity_step),
                height(&scale, card->track.intensity[i]));
    fputs("\"/>", out);
    close_lane(&scale, out);
}

static void draw_time(const Card *card, FILE *out) {
    double step = round_step(card->seconds / 5);
    int decimals = step < 1 ? (int)fmin(4, ceil(-log10(step))) : 0;
    fputs("<div class=\"axis\">", out);
    for (int i = 0; i * step <= card->seconds; i++)
        fprintf(out, "<i style=\"left:%.2f%%\">%.*f</i>", across(card, i * step) / 10, decimals, i * step);
    fputs("<span>s</span></div>\n", out);
}

/* The plot in words, for those who do not see it. */
static void describe(const Card *card, FILE *out) {
    const double *value = card->features.value;
    fputs("Waveform, F0 and intensity over ", out);
    html_decimal(out, card->seconds, 2);
    fputs(" s. Median F0 ", out);
    html_decimal(out, value[FEATURE_F0_MEDIAN_HZ], 0);
    fputs(" Hz, range ", out);
    html_decimal(out, value[FEATURE_F0_RANGE_ST], 1);
    fputs(" semitones; mean intensity ", out);
    html_decimal(out, value[FEATURE_INTENSITY_MEAN_DB], 1);
    fputs(" dB.", out);
}

static void write_plot(const DataReport *report, const Card *card, Scale intensity, FILE *out) {
    fputs("<div class=\"lanes\" role=\"img\" aria-label=\"", out);
    describe(card, out);
    fputs("\">\n", out);
    draw_wave(card, out);
    draw_pitch(card, normal_band(report, card, CUE_PITCH), out);
    draw_intensity(card, intensity, normal_band(report, card, CUE_VOLUME), out);
    draw_time(card, out);
    fputs("<div class=\"over\"><b></b></div></div>\n", out);
}

static void write_player(const Card *card, FILE *out) {
    fputs(
        "<audio controls=\"controls\" preload=\"metadata\" aria-label=\"The recording\" src=\"data:audio/flac;base64,",
        out);
    html_base64(out, card->audio, card->audio_size);
    fputs("\"></audio>\n", out);
    if (card->whole_seconds > card->seconds)
        fprintf(out, "<p class=\"note\">The first %.0f s of %.1f s.</p>\n", card->seconds, card->whole_seconds);
}

/* --- annotation --- */

static void named(const char *title, const char *value, FILE *out) {
    if (!value || !*value) return;
    fprintf(out, ", %s<bdi>", title);
    html_text_most(out, value, NAME_MOST);
    fputs("</bdi>", out);
}

static void write_header(const DataReport *report, const Card *card, FILE *out) {
    const Utterance *utterance = report->set.utterances[card->index];
    bool labelled = utterance->emotion && *utterance->emotion;
    fputs("<header><h3>", out);
    if (labelled) fputs("<bdi>", out);
    html_text_most(out, labelled ? utterance->emotion : "no label", NAME_MOST);
    if (labelled) fputs("</bdi>", out);
    fprintf(out, "</h3><p>%s%s", utterance->gender ? "" : "gender ", GENDER_NAMES[gender_of(utterance)]);
    named("speaker ", utterance->speaker, out);
    if (!utterance->speaker || !utterance->group || strcmp(utterance->speaker, utterance->group) != 0)
        named("group ", utterance->group, out);
    if (report->census.by[FIELD_CORPUS].count > 1) named("", utterance->corpus, out);
    fprintf(out, ", %.2f s</p><code><bdi>", card->whole_seconds);
    html_text_most(out, utterance->id, NAME_MOST);
    fputs("</bdi></code></header>\n", out);
}

/* Where a value lies: the levels in bands of equal or, of five, graded width, and a dot. */
static void write_strip(const DataReport *report, const double *cuts, double value, FILE *out) {
    int last = report->level_count - 2;
    double room = (cuts[last] - cuts[0]) / (report->level_count == 3 ? 1 : 4);
    double low = cuts[0] - room, wide = cuts[last] + room - low, from = 0;
    if (!(wide > 0) || !isfinite(wide)) return;
    fputs("<span class=\"strip\" aria-hidden=\"true\">", out);
    for (int level = 0; level < report->level_count; level++) {
        double to = level <= last ? 100 * (cuts[level] - low) / wide : 100;
        fprintf(out, "<i class=\"t%d\" style=\"width:%.2f%%\"></i>", report_tone(level, report->level_count),
                to - from);
        from = to;
    }
    fprintf(out, "<b style=\"left:%.2f%%\"></b></span>", 100 * fmin(fmax((value - low) / wide, 0.02), 0.98));
}

static void write_cue(const DataReport *report, const Card *card, Cue cue, FILE *out) {
    int level = report->levels[card->index].level[cue];
    double value = card->features.value[CUE_FEATURES[cue]];
    fprintf(out, "<tr><th scope=\"row\">%s</th><td class=\"text\">", CUE_NAMES[cue]);
    if (level != LEVEL_NONE)
        fprintf(out, "<span class=\"key t%d\">%s</span>", report_tone(level, report->level_count),
                level_word(cue, level, report->level_count));
    else
        fputs("<span class=\"none\">no level</span>", out);
    fputs("</td><td>", out);
    html_decimal(out, value, CUE_DECIMALS[cue]);
    fprintf(out, " <small>%s</small></td><td class=\"where\">", CUE_UNITS[cue]);
    const double *cuts = judging_cuts(report, card, cue);
    if (cuts) write_strip(report, cuts, value, out);
    fputs("</td></tr>\n", out);
}

static void write_words(const DataReport *report, const Card *card, FILE *out) {
    const Utterance *utterance = report->set.utterances[card->index];
    if (utterance->transcript && *utterance->transcript) {
        fputs("<p class=\"said\"><q><bdi>", out);
        html_text_most(out, utterance->transcript, TEXT_MOST);
        fputs("</bdi></q></p>\n", out);
    }
    if (!utterance->explanation || !*utterance->explanation) return;
    fputs("<blockquote><p><bdi>", out);
    html_text_most(out, utterance->explanation, TEXT_MOST);
    fputs("</bdi></p><footer>", out);
    if (utterance->teacher && *utterance->teacher) {
        fputs("<bdi>", out);
        html_text_most(out, utterance->teacher, NAME_MOST);
        fputs("</bdi>", out);
    } else {
        fputs("teacher not given", out);
    }
    if (!levels_kept(utterance, &report->levels[card->index], report->level_count))
        fputs("; written from other levels than these", out);
    fputs("</footer></blockquote>\n", out);
}

/* "f0_median_hz" is "F0 median" in "Hz". */
static const char *unit_of(const char *name, int *length) {
    static const char *const UNITS[][2] = {{"_syll_s", "syll/s"}, {"_st_s", "st/s"}, {"_hz", "Hz"}, {"_db", "dB"},
                                           {"_lufs", "LUFS"},     {"_st", "st"},     {"_s", "s"}};
    *length = (int)strlen(name);
    for (size_t i = 0; i < sizeof UNITS / sizeof *UNITS; i++) {
        int ending = (int)strlen(UNITS[i][0]);
        if (*length <= ending || strcmp(name + *length - ending, UNITS[i][0]) != 0) continue;
        *length -= ending;
        return UNITS[i][1];
    }
    return "";
}

static void write_feature(const char *name, double value, FILE *out) {
    bool count = strstr(name, "_count") != NULL, numbered = name[0] == 'f' && strchr("0123", name[1]);
    double size = fabs(value);
    int length;
    const char *unit = unit_of(name, &length);
    fputs("<tr><th scope=\"row\">", out);
    for (int i = 0; i < length; i++) fputc(name[i] == '_' ? ' ' : i == 0 && numbered ? 'F' : name[i], out);
    fputs("</th><td>", out);
    html_decimal(out, value, count ? 0 : size < 1 ? 3 : size < 100 ? 2 : 1);
    fprintf(out, "</td><td class=\"text\">%s</td></tr>\n", unit);
}

static void write_features(const DataReport *report, const Card *card, FILE *out) {
    bool measured = !report->set.utterances[card->index]->has_features;
    fprintf(out, "<details><summary>All features%s</summary><table><tbody>\n",
            measured ? ", measured for this page" : "");
    for (int feature = 0; feature < FEATURE_COUNT; feature++)
        write_feature(FEATURE_NAMES[feature], card->features.value[feature], out);
    fputs("</tbody></table></details>\n", out);
}

static void write_card(const DataReport *report, const Card *card, Scale intensity, FILE *out) {
    fprintf(out, "<article class=\"card\" data-seconds=\"%.4f\">\n", card->seconds);
    write_header(report, card, out);
    write_plot(report, card, intensity, out);
    write_player(card, out);
    fputs("<table class=\"cue\"><tbody>\n", out);
    for (int cue = 0; cue < CUE_COUNT; cue++) write_cue(report, card, (Cue)cue, out);
    fputs("</tbody></table>\n", out);
    write_words(report, card, out);
    write_features(report, card, out);
    fputs("</article>\n", out);
}

void report_write_cards(const DataReport *report, FILE *out) {
    if (!report->card_count) return;
    Scale intensity = intensity_scale(report);
    fputs("<section id=\"samples\"><h2>Samples</h2>\n<p>Drawn by chance from every class. Shaded is what counts as "
          "normal in such a voice and corpus, dashed the utterance’s median F0 and mean intensity. A click in a plot "
          "plays from there.</p>\n<div class=\"cards\">\n",
          out);
    for (size_t i = 0; i < report->card_count; i++) write_card(report, &report->cards[i], intensity, out);
    fputs("</div></section>\n", out);
}
