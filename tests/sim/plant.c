/* plant HEADER BUGS N OUT: writes a copy of the header with bug N of the list, and prints its name.
   Status 3: there is no such bug; 2: its text does not stand in the header exactly once. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static char *read_all(const char *path) {
    FILE *f = fopen(path, "rb");
    char *text = (char *)calloc(1, 1 << 23);
    if (f == NULL || text == NULL || fread(text, 1, (1 << 23) - 1, f) == 0) exit(1);
    fclose(f);
    return text;
}
int main(int argc, char **argv) {
    char *header, *bugs, *name, *from, *to, *at, *again;
    FILE *out;
    int n;
    if (argc != 5) return 1;
    header = read_all(argv[1]);
    bugs = read_all(argv[2]);
    while (*bugs == '#') bugs = strchr(bugs, '\n') + 1;
    for (n = atoi(argv[3]); n > 0; n--) {
        bugs = strstr(bugs, "\n===\n");
        if (bugs == NULL) return 3;
        bugs += 5;
    }
    name = bugs;
    if (*name == '\0') return 3;
    from = strchr(name, '\n') + 1;
    to = strstr(from, "\n---\n");
    from[-1] = to[0] = '\0';
    to += 5;
    strstr(to, "\n===\n")[0] = '\0';
    puts(name);
    at = strstr(header, from);
    again = at != NULL ? strstr(at + 1, from) : NULL;
    if (at == NULL || again != NULL) return 2;
    out = fopen(argv[4], "wb");
    if (out == NULL) return 1;
    fwrite(header, 1, (size_t)(at - header), out);
    fputs(to, out);
    fputs(at + strlen(from), out);
    return fclose(out) != 0;
}
