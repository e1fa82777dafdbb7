/* A teacher that is a Hugging Face LLM folder, answering with our own generation. Private to train/. */
#ifndef SEMOLLM_TRAIN_TEACHER_LOCAL_H
#define SEMOLLM_TRAIN_TEACHER_LOCAL_H

#include "data/data.h"
#include "model/model.h"

typedef struct LocalTeacherOptions {
    const char *llm;  /* the folder */
    const char *chat; /* a template's name or format, which outlives the teacher; null: guessed from the folder */
    DeviceChoice device;
    int64_t together; /* questions that are answered side by side */
    int64_t answer_tokens;
    double temperature; /* 0: greedy */
} LocalTeacherOptions;

Teacher *local_teacher_open(const LocalTeacherOptions *options, Error *err);
void local_teacher_close(Teacher *teacher);

#endif
