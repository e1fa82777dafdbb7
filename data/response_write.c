#include <stdlib.h>
#include <string.h>

#include "data/quote.h"
#include "data/response.h"

const char *const PART_NAMES[PART_COUNT] = {
    [PART_EMOTION] = "emotion",
    [PART_GENDER] = "gender",
    [PART_PITCH] = "pitch",
    [PART_SPEED] = "speed",
    [PART_VOLUME] = "volume",
    [PART_TRANSCRIPT] = "transcript",
    [PART_EXPLANATION] = "explanation",
};

typedef struct Writer {
    const ResponseFormat *format;
    const Utterance *utterance;
    const Levels *levels;
    const char *explanation;
    Text text;
} Writer;

static const char *cue_word(const Writer *writer, Part part) {
    Cue cue = part == PART_PITCH ? CUE_PITCH : part == PART_SPEED ? CUE_SPEED : CUE_VOLUME;
    return level_word(cue, writer->levels->level[cue], writer->format->level_count);
}

/* What an answer says of a part; null where it is unknown. */
static const char *part_value(const Writer *writer, Part part) {
    switch (part) {
    case PART_EMOTION:
        return writer->utterance->emotion;
    case PART_GENDER:
        return writer->utterance->gender;
    case PART_TRANSCRIPT:
        return writer->utterance->transcript;
    case PART_EXPLANATION:
        return writer->explanation;
    default:
        return cue_word(writer, part);
    }
}

static bool wanted(const Writer *writer, Part part) {
    for (int i = 0; i < writer->format->part_count; i++)
        if (writer->format->parts[i] == part) return part_value(writer, part) != NULL;
    return false;
}

static void separate(Text *text) {
    if (text->length) text_add_string(text, " ");
}

/* An explanation is quoted only where it could not be told from what follows it. */
static void add_explanation(Writer *writer, bool last) {
    const char *value = writer->explanation;
    text_add_string(&writer->text, "Explanation: ");
    bool quoted = quote_opens(*value) || quote_holds_label(value) || (!last && writer->format->style == STYLE_PAPER);
    if (quoted) {
        quote_add(&writer->text, value, '"');
    } else {
        text_add_string(&writer->text, value);
    }
}

/* --- labelled: "Emotion: happy. Gender: female. ..." --- */

static void add_labelled(Writer *writer, Part part, bool last) {
    const char *value = part_value(writer, part);
    if (!value) return;
    separate(&writer->text);
    if (part == PART_EXPLANATION) {
        add_explanation(writer, last);
        return;
    }
    const char *name = PART_NAMES[part];
    text_addf(&writer->text, "%c%s: ", name[0] - 'a' + 'A', name + 1);
    if (part == PART_TRANSCRIPT) {
        quote_add(&writer->text, value, '"');
    } else {
        text_addf(&writer->text, "%s.", value);
    }
}

/* --- the paper's: "The Emotion may be happy. The female is saying '...' with high pitch ..." --- */

static void add_cues(Writer *writer) {
    static const Part CUES[] = {PART_PITCH, PART_SPEED, PART_VOLUME};
    Part said[3];
    int count = 0;
    for (int i = 0; i < 3; i++)
        if (wanted(writer, CUES[i])) said[count++] = CUES[i];
    for (int i = 0; i < count; i++)
        text_addf(&writer->text, "%s%s %s",
                  i == 0           ? " with "
                  : i + 1 == count ? " and "
                                   : ", ",
                  cue_word(writer, said[i]), PART_NAMES[said[i]]);
}

static void add_speaking(Writer *writer) {
    bool gender = wanted(writer, PART_GENDER), transcript = wanted(writer, PART_TRANSCRIPT);
    bool cues = wanted(writer, PART_PITCH) || wanted(writer, PART_SPEED) || wanted(writer, PART_VOLUME);
    if (!gender && !transcript && !cues) return;
    separate(&writer->text);
    if (!transcript && !cues) {
        text_addf(&writer->text, "The speaker is %s.", writer->utterance->gender);
        return;
    }
    text_addf(&writer->text, "The %s is %s", gender ? writer->utterance->gender : "speaker",
              transcript ? "saying " : "speaking");
    if (transcript) {
        const char *words = writer->utterance->transcript;
        quote_add(&writer->text, words, strchr(words, '\'') ? '"' : '\'');
    }
    add_cues(writer);
    text_add_string(&writer->text, ".");
}

/* The emotion, the sentence of all cues and the explanation stand in the order of their first parts. */
static void write_paper(Writer *writer) {
    bool spoken = false;
    for (int i = 0; i < writer->format->part_count; i++) {
        Part part = writer->format->parts[i];
        bool last = i + 1 == writer->format->part_count;
        if (part == PART_EMOTION) {
            if (!part_value(writer, part)) continue;
            separate(&writer->text);
            text_addf(&writer->text, "The Emotion may be %s.", writer->utterance->emotion);
        } else if (part == PART_EXPLANATION) {
            separate(&writer->text);
            add_explanation(writer, last);
        } else if (!spoken) {
            add_speaking(writer);
            spoken = true;
        }
    }
}

static void write_labelled(Writer *writer) {
    for (int i = 0; i < writer->format->part_count; i++)
        add_labelled(writer, writer->format->parts[i], i + 1 == writer->format->part_count);
}

static bool has_part(const ResponseFormat *format, Part part) {
    for (int i = 0; i < format->part_count; i++)
        if (format->parts[i] == part) return true;
    return false;
}

/* Whether the explanation at hand says what was measured: written from these levels, and of the emotion
 * that the utterance has now (a run may have mapped the corpus's label to a class of its own). */
static bool explained(const Utterance *utterance, const Levels *levels, int level_count) {
    if (!utterance->explanation || !levels_kept(utterance, levels, level_count)) return false;
    const char *written = json_string_value(json_object_get(utterance->json, "emotion"));
    return !written || !utterance->emotion || strcmp(written, utterance->emotion) == 0;
}

char *response_write(const ResponseFormat *format, const Utterance *utterance, const Levels *levels, uint64_t seed,
                     bool *replaced, Error *err) {
    Writer writer = {format, utterance, levels, utterance->explanation, {0}};
    char *template = NULL;
    if (replaced) *replaced = false;
    if (has_part(format, PART_EXPLANATION) && !explained(utterance, levels, format->level_count)) {
        template = explanation_write(utterance, levels, format->level_count, seed, err);
        if (!template) return NULL;
        writer.explanation = template;
        if (replaced) *replaced = true;
    }
    if (format->style == STYLE_PAPER) {
        write_paper(&writer);
    } else {
        write_labelled(&writer);
    }
    free(template);
    return text_finish(&writer.text, err);
}

char *description_write(const Utterance *utterance, const Levels *levels, int level_count, const Part *parts,
                        int part_count, Error *err) {
    ResponseFormat format = {.level_count = level_count};
    Writer writer = {&format, utterance, levels, utterance->explanation, {0}};
    for (int i = 0; i < part_count; i++) {
        const char *value = part_value(&writer, parts[i]);
        if (!value) continue;
        if (writer.text.length) text_add_string(&writer.text, ", ");
        text_addf(&writer.text, "%s: ", PART_NAMES[parts[i]]);
        if (parts[i] == PART_TRANSCRIPT || parts[i] == PART_EXPLANATION) {
            quote_add(&writer.text, value, '"');
        } else {
            text_add_string(&writer.text, value);
        }
    }
    return text_finish(&writer.text, err);
}
