/* A strict reader of JSON (RFC 8259): the place behind a value; NULL: there is none. */

static const char *json_value(const char *p, int depth);
static const char *json_space(const char *p) {
    while (*p == ' ' || *p == '\n' || *p == '\t' || *p == '\r') p++;
    return p;
}
static const char *json_string(const char *p) {
    if (*p++ != '"') return NULL;
    for (; *p != '"'; p++) {
        if ((unsigned char)*p < 0x20) return NULL; /* the end too */
        if (*p != '\\') continue;
        p++;
        if (*p == 'u') {
            if (strspn(p + 1, "0123456789abcdefABCDEF") < 4) return NULL;
            p += 4;
        } else if (*p == '\0' || strchr("\"\\/bfnrt", *p) == NULL)
            return NULL;
    }
    return p + 1;
}
static const char *json_number(const char *p) {
    if (*p == '-') p++;
    if (*p == '0') return p[1] >= '0' && p[1] <= '9' ? NULL : p + 1;
    if (*p < '1' || *p > '9') return NULL;
    return p + strspn(p, "0123456789");
}
static const char *json_list(const char *p, int depth, char close) { /* of an array or object */
    p = json_space(p + 1);
    if (*p == close) return p + 1;
    for (;;) {
        if (close == '}') {
            p = json_string(p);
            if (p == NULL || *json_space(p) != ':') return NULL;
            p = json_space(json_space(p) + 1);
        }
        p = json_value(p, depth + 1);
        if (p == NULL) return NULL;
        p = json_space(p);
        if (*p == close) return p + 1;
        if (*p != ',') return NULL;
        p = json_space(p + 1);
    }
}
static const char *json_value(const char *p, int depth) {
    if (depth > 8) return NULL;
    if (*p == '{') return json_list(p, depth, '}');
    if (*p == '[') return json_list(p, depth, ']');
    return *p == '"' ? json_string(p) : json_number(p);
}
static bool json_valid(const char *text) {
    const char *end = json_value(json_space(text), 0);
    return end != NULL && *json_space(end) == '\0';
}
