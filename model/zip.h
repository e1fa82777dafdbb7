/* Zip archives as torch.save writes them: entries stored without compression, so that a mapping of the
 * file is all the reading there is. Zip64 included; anything else is refused by name. */
#ifndef SEMOLLM_MODEL_ZIP_H
#define SEMOLLM_MODEL_ZIP_H

#include "base/base.h"

typedef struct ZipEntry {
    char *name;
    const unsigned char *data; /* null until zip_open_entry has checked it */
    uint64_t size, header;     /* bytes; where the local header stands */
    uint32_t checksum;
    unsigned method, flags;
} ZipEntry;

typedef struct Zip {
    const char *path; /* the caller's */
    FileMap map;
    ZipEntry *entries; /* sorted by name, which is unique */
    size_t count, capacity;
} Zip;

bool zip_is(const FileMap *map);

/* Takes the mapping over, and unmaps it on failure too. */
bool zip_open(Zip *zip, FileMap map, const char *path, Error *err);
void zip_close(Zip *zip);

ZipEntry *zip_find(const Zip *zip, const char *name); /* null: not there */

/* Finds the entry's bytes and holds them against their checksum, once. */
bool zip_open_entry(const Zip *zip, ZipEntry *entry, Error *err);

#endif
