/* Which samples are shown, and what is measured of them. */
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

#include "data/report.h"

/* --- choosing --- */

/* An utterance and where chance puts it in its class, whatever stands beside it in the data. */
typedef struct Drawn {
    uint32_t class_row;
    uint64_t rank;
    size_t index;
    bool used;
} Drawn;

static int compare_drawn(const void *a, const void *b) {
    const Drawn *x = a, *y = b;
    if (x->class_row != y->class_row) return x->class_row < y->class_row ? -1 : 1;
    if (x->rank != y->rank) return x->rank < y->rank ? -1 : 1;
    return (x->index > y->index) - (x->index < y->index);
}

static uint64_t rank_of(uint64_t seed, const char *id) {
    uint64_t hash = XXH64(id, strlen(id), 0);
    Philox drawn = philox(seed, (uint32_t)hash, (uint32_t)(hash >> 32), 0, 0);
    return (uint64_t)drawn.word[0] << 32 | drawn.word[1];
}

/* Each class in turn gets a card until all `count` are dealt or every utterance has one. */
static void deal(const Categories *classes, size_t count, size_t *share) {
    for (bool more = true; more;) {
        more = false;
        for (size_t c = 0; c < classes->count && count; c++) {
            if (share[c] == (size_t)classes->rows[c].utterances) continue;
            share[c]++;
            count--;
            more = true;
        }
    }
}

/* The first that is left of the gender shown least. */
static size_t draw_one(const DataSet *set, Drawn *class_drawn, size_t count, int64_t *shown) {
    size_t best = count;
    for (size_t i = 0; i < count; i++) {
        if (class_drawn[i].used) continue;
        if (best == count || shown[gender_of(set->utterances[class_drawn[i].index])] <
                                 shown[gender_of(set->utterances[class_drawn[best].index])])
            best = i;
    }
    class_drawn[best].used = true;
    shown[gender_of(set->utterances[class_drawn[best].index])]++;
    return class_drawn[best].index;
}

bool cards_choose(const DataSet *set, const Categories *classes, uint64_t seed, size_t count, size_t *chosen,
                  size_t *found, Error *err) {
    Drawn *drawn = memory_new(set->count, sizeof *drawn, err), *class_drawn = drawn;
    size_t *share = memory_new(classes->count, sizeof *share, err);
    bool done = drawn && share;
    *found = 0;
    for (size_t i = 0; i < set->count && done; i++)
        drawn[i] = (Drawn){classes->row_of[i], rank_of(seed, set->utterances[i]->id), i, false};
    if (done) {
        qsort(drawn, set->count, sizeof *drawn, compare_drawn);
        deal(classes, count, share);
    }
    for (size_t c = 0; c < classes->count && done; c++) {
        int64_t shown[GENDERS] = {0};
        size_t utterances = (size_t)classes->rows[c].utterances;
        for (size_t k = 0; k < share[c]; k++) chosen[(*found)++] = draw_one(set, class_drawn, utterances, shown);
        class_drawn += utterances;
    }
    free(drawn);
    free(share);
    return done;
}

/* --- measuring --- */

static void find_envelope(Card *card, const Audio *audio) {
    card->columns = audio->count < CARD_COLUMNS ? (int)audio->count : CARD_COLUMNS;
    for (int column = 0; column < card->columns; column++) {
        int64_t from = audio->count * column / card->columns, to = audio->count * (column + 1) / card->columns;
        card->low[column] = card->high[column] = audio->samples[from];
        for (int64_t i = from; i < to; i++) {
            card->low[column] = fminf(card->low[column], audio->samples[i]);
            card->high[column] = fmaxf(card->high[column], audio->samples[i]);
        }
    }
}

static bool fill_card(Card *card, const DataSet *set, Audio *audio, Error *err) {
    const Utterance *utterance = set->utterances[card->index];
    FeatureOptions options = feature_options_default();
    int64_t most = (int64_t)(CARD_SECONDS_MOST * audio->rate);
    card->whole_seconds = (double)audio->count / audio->rate;
    if (audio->count > most) audio->count = most;
    card->seconds = (double)audio->count / audio->rate;
    find_envelope(card, audio);
    if (!features_measure(audio, &options, &card->features, &card->track, err) ||
        !audio_encode(audio, AUDIO_FLAC, &card->audio, &card->audio_size, err))
        return false;
    if (utterance->has_features) card->features = utterance->features;
    return true;
}

bool card_make(Card *card, const DataSet *set, size_t index, Error *err) {
    *card = (Card){.index = index};
    Audio audio = {0};
    bool done = data_set_audio(set, index, &audio, err) && fill_card(card, set, &audio, err);
    audio_free(&audio);
    if (!done) card_free(card);
    return done;
}

void card_free(Card *card) {
    feature_track_free(&card->track);
    free(card->audio);
    *card = (Card){0};
}
