#include "json.h"

#include <string.h>

#include "platform.h"

enum { MAX_DEPTH = 64 };

Json st_json(const void *text, size_t size) {
    const char *start = text;
    if (size >= 3 && !memcmp(start, "\xef\xbb\xbf", 3)) start += 3, size -= 3; /* a byte order mark */
    return (Json){start, start + size, 0, NULL};
}

bool st_json_fail(Json *json, const char *error) {
    if (!json->error) json->error = error;
    return false;
}

/* The next character that is not white space, which is not read; 0 at the end or after an error. */
static char peek(Json *json) {
    while (json->next < json->end && (*json->next == ' ' || *json->next == '\n' || *json->next == '\t' || *json->next == '\r'))
        json->next++;
    return json->error || json->next == json->end ? 0 : *json->next;
}

static bool take(Json *json, char expected) {
    if (peek(json) != expected) return false;
    json->next++;
    return true;
}

bool st_json_open(Json *json, char bracket) {
    if (!take(json, bracket)) return st_json_fail(json, bracket == '{' ? "an object is missing" : "a list is missing");
    if (++json->depth > MAX_DEPTH) return st_json_fail(json, "it is nested too deeply");
    return true;
}

/* Whether another item follows, for both kinds of bracket. */
static bool another(Json *json, bool *first, char bracket) {
    if (json->error) return false;
    const bool was_first = *first;
    *first = false;
    if (take(json, bracket)) {
        json->depth--;
        return false;
    }
    if (!was_first && !take(json, ',')) return st_json_fail(json, "a comma or bracket is missing");
    return true;
}

bool st_json_item(Json *json, bool *first) { return another(json, first, ']'); }

bool st_json_key(Json *json, bool *first, char *key, size_t size) {
    if (!another(json, first, '}')) return false;
    if (!st_json_string(json, key, size)) return false;
    return take(json, ':') || st_json_fail(json, "a colon is missing");
}

static bool read_hexadecimal(Json *json, uint32_t *value) {
    *value = 0;
    for (int i = 0; i < 4; i++, json->next++) {
        const char c = json->next < json->end ? *json->next : 0;
        const int digit = c >= '0' && c <= '9'   ? c - '0'
                          : c >= 'a' && c <= 'f' ? c - 'a' + 10
                          : c >= 'A' && c <= 'F' ? c - 'A' + 10
                                                 : -1;
        if (digit < 0) return st_json_fail(json, "an escape in a text is wrong");
        *value = *value << 4 | (uint32_t)digit;
    }
    return true;
}

/* A character after a backslash, as UTF-8. Returns its number of bytes; 0 after an error. */
static size_t read_escape(Json *json, char bytes[4]) {
    const char c = json->next < json->end ? *json->next++ : 0;
    static const char names[] = "\"\\/bfnrt", values[] = "\"\\/\b\f\n\r\t";
    const char *place = c ? strchr(names, c) : NULL;
    if (place) return bytes[0] = values[place - names], 1;
    uint32_t code, low;
    if (c != 'u' || !read_hexadecimal(json, &code)) return (size_t)st_json_fail(json, "an escape in a text is wrong");
    if (code >= 0xd800 && code < 0xe000) {
        const bool pair = code < 0xdc00 && json->end - json->next >= 2 && json->next[0] == '\\' && json->next[1] == 'u';
        if (pair) json->next += 2;
        if (!pair || !read_hexadecimal(json, &low) || low < 0xdc00 || low > 0xdfff)
            return (size_t)st_json_fail(json, "a text holds half a surrogate pair");
        code = 0x10000 + ((code & 0x3ff) << 10 | (low & 0x3ff));
    }
    if (code == 0) return (size_t)st_json_fail(json, "a text holds a zero");
    if (code < 0x80) return bytes[0] = (char)code, 1;
    const size_t count = code < 0x800 ? 2 : code < 0x10000 ? 3 : 4;
    for (size_t i = count - 1; i; i--, code >>= 6) bytes[i] = (char)(0x80 | (code & 0x3f));
    bytes[0] = (char)((count == 2 ? 0xc0 : count == 3 ? 0xe0 : 0xf0) | code);
    return count;
}

/* A character that is not ASCII. Returns its number of bytes; 0 if it is not UTF-8. */
static size_t utf8_size(const char *text, const char *end) {
    const uint8_t *s = (const uint8_t *)text;
    const size_t count = s[0] >= 0xc2 && s[0] < 0xe0 ? 2 : s[0] >= 0xe0 && s[0] < 0xf0 ? 3 : s[0] >= 0xf0 && s[0] < 0xf5 ? 4 : 0;
    if (!count || (size_t)(end - text) < count) return 0;
    for (size_t i = 1; i < count; i++)
        if ((s[i] & 0xc0) != 0x80) return 0;
    const bool overlong = (s[0] == 0xe0 && s[1] < 0xa0) || (s[0] == 0xf0 && s[1] < 0x90);
    const bool outside = (s[0] == 0xed && s[1] >= 0xa0) || (s[0] == 0xf4 && s[1] >= 0x90);
    return overlong || outside ? 0 : count;
}

/* A text, into `text` unless that is null. */
static bool read_string(Json *json, char *text, size_t size) {
    if (!take(json, '"')) return st_json_fail(json, "a text is missing");
    size_t used = 0;
    while (json->next < json->end && *json->next != '"') {
        char bytes[4];
        size_t count = 1;
        const char *from = json->next;
        if (*from == '\\') {
            json->next++;
            count = read_escape(json, bytes);
            from = bytes;
        } else {
            if ((uint8_t)*from < 0x20) return st_json_fail(json, "a text holds a control character");
            if ((uint8_t)*from >= 0x80) count = utf8_size(from, json->end);
            json->next += count;
        }
        if (!count) return st_json_fail(json, "a text is not UTF-8");
        if (!text) continue;
        if (used + count >= size) return st_json_fail(json, "a text is too long");
        memcpy(text + used, from, count);
        used += count;
    }
    if (text) text[used] = 0;
    return take(json, '"') || st_json_fail(json, "a text does not end");
}

bool st_json_string(Json *json, char *text, size_t size) { return read_string(json, text, size); }

static bool is_digit(const Json *json) { return json->next < json->end && *json->next >= '0' && *json->next <= '9'; }

static bool skip_digits(Json *json) {
    if (!is_digit(json)) return st_json_fail(json, "a digit is missing");
    while (is_digit(json)) json->next++;
    return true;
}

static bool skip_number(Json *json) {
    take(json, '-');
    if (json->next < json->end && *json->next == '0') json->next++;
    else if (!skip_digits(json)) return false;
    if (json->next < json->end && *json->next == '.') {
        json->next++;
        if (!skip_digits(json)) return false;
    }
    if (json->next < json->end && (*json->next == 'e' || *json->next == 'E')) {
        json->next++;
        if (json->next < json->end && (*json->next == '+' || *json->next == '-')) json->next++;
        if (!skip_digits(json)) return false;
    }
    return true;
}

bool st_json_integer(Json *json, int64_t *value) {
    peek(json);
    const char *c = json->next;
    if (json->error || !skip_number(json)) return st_json_fail(json, "a whole number is missing");
    const bool negative = *c == '-';
    uint64_t number = 0;
    for (c += negative; c < json->next; c++) {
        if (*c < '0' || *c > '9') return st_json_fail(json, "a number is not whole");
        if (number > (uint64_t)INT64_MAX / 10 - 1) return st_json_fail(json, "a number is too large");
        number = 10 * number + (uint64_t)(*c - '0');
    }
    *value = negative ? -(int64_t)number : (int64_t)number;
    return true;
}

static bool take_word(Json *json, const char *word) {
    const size_t size = strlen(word);
    peek(json);
    if (json->error || (size_t)(json->end - json->next) < size || memcmp(json->next, word, size)) return false;
    json->next += size;
    return true;
}

bool st_json_null(Json *json) { return take_word(json, "null"); }

bool st_json_skip(Json *json) {
    bool first = true;
    switch (peek(json)) {
    case '{':
        if (!st_json_open(json, '{')) return false;
        while (another(json, &first, '}')) {
            if (!read_string(json, NULL, 0)) return false;
            if (!take(json, ':')) return st_json_fail(json, "a colon is missing");
            if (!st_json_skip(json)) return false;
        }
        return !json->error;
    case '[':
        if (!st_json_open(json, '[')) return false;
        while (another(json, &first, ']'))
            if (!st_json_skip(json)) return false;
        return !json->error;
    case '"': return read_string(json, NULL, 0);
    case 't': return take_word(json, "true") || st_json_fail(json, "a value is missing");
    case 'f': return take_word(json, "false") || st_json_fail(json, "a value is missing");
    case 'n': return take_word(json, "null") || st_json_fail(json, "a value is missing");
    default: return skip_number(json);
    }
}

bool st_json_end(Json *json) {
    if (!json->error && peek(json)) st_json_fail(json, "something follows its end");
    return !json->error;
}
