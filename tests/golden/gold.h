/* gold.h - reads .gold files: 8 bytes "DLSGOLD1", then records until the end, little-endian:
   u8 type ('f' float32, 'd' float64), u8 length of name, name, u8 axes, u32 per axis, values. */
#ifndef GOLD_H
#define GOLD_H

#define GOLD_RECORDS 1024
typedef struct gold {
    const char *name; /* not terminated */
    int name_length, axes;
    size_t dim[4], count;
    double *v;
} gold;
static gold gold_all[GOLD_RECORDS];
static int gold_count;

static uint64_t gold_load(const unsigned char *p, int bytes) {
    uint64_t v = 0;
    while (bytes-- > 0) v = v << 8 | p[bytes];
    return v;
}
static double gold_value(const unsigned char *p, int type) {
    uint64_t bits = gold_load(p, type == 'd' ? 8 : 4);
    uint32_t low = (uint32_t)bits;
    double d;
    float f;
    if (type == 'd') {
        memcpy(&d, &bits, 8);
        return d;
    }
    memcpy(&f, &low, 4);
    return (double)f;
}
/* Adds a file's records to gold_all; they stay to the program's end. */
static void gold_read(const char *path) {
    FILE *file = fopen(path, "rb");
    unsigned char *bytes = (unsigned char *)malloc(1 << 20), *p = bytes + 8, *end;
    if (file == NULL || bytes == NULL) {
        printf("FAIL golden: cannot open %s\n", path);
        exit(1);
    }
    end = bytes + fread(bytes, 1, 1 << 20, file);
    fclose(file);
    if (end < p || memcmp(bytes, "DLSGOLD1", 8) != 0) p = end + 1;
    while (p < end && gold_count < GOLD_RECORDS) {
        gold *g = &gold_all[gold_count++];
        const int type = p[0], width = type == 'd' ? 8 : 4;
        g->name = (const char *)p + 2;
        g->name_length = p[1];
        p += 2 + p[1];
        g->axes = *p++;
        g->count = 1;
        for (int i = 0; i < g->axes && i < 4; i++, p += 4)
            g->count *= g->dim[i] = (size_t)gold_load(p, 4);
        g->v = (double *)malloc(g->count * sizeof *g->v);
        for (size_t i = 0; i < g->count; i++, p += width) g->v[i] = gold_value(p, type);
    }
    if (p != end) {
        printf("FAIL golden: %s is damaged or has too many records\n", path);
        exit(1);
    }
}
/* The record of that name, NULL when there is none. */
static const gold *gold_find(const char *format, ...) {
    char name[128];
    va_list ap;
    va_start(ap, format);
    const int length = vsnprintf(name, sizeof name, format, ap);
    va_end(ap);
    for (int i = 0; i < gold_count; i++)
        if (gold_all[i].name_length == length &&
            memcmp(gold_all[i].name, name, (size_t)length) == 0)
            return &gold_all[i];
    return NULL;
}
static void gold_to(const gold *g, dls_real *to) {
    for (size_t i = 0; i < g->count; i++) to[i] = (dls_real)g->v[i];
}
/* Greatest distance of x from a record, as a share of the record's greatest value (at least 1e-3).
   Huge when there is no such record, or no x. */
static double gold_far(const gold *g, const dls_real *x) {
    double far = 0, most = 1e-3;
    if (g == NULL || x == NULL) return 1e300;
    for (size_t i = 0; i < g->count; i++) {
        const double d = fabs((double)x[i] - g->v[i]);
        if (!(d <= far)) far = d == d ? d : 1e300;
        if (fabs(g->v[i]) > most) most = fabs(g->v[i]);
    }
    return far / most;
}
#endif
