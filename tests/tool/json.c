/* json FILE: status 0 when the file is JSON and nothing else. */
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "json.h"

int main(int argc, char **argv) {
    const size_t most = 64u << 20;
    char *text = (char *)calloc(most, 1);
    FILE *f = argc == 2 ? fopen(argv[1], "rb") : NULL;
    if (text == NULL || f == NULL || fread(text, 1, most - 1, f) == 0) return 2;
    return json_valid(text) ? 0 : 1;
}
