#include "error.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

static THREAD_LOCAL char message[512];

const char *speechtok_error_message(void) { return message; }

static void replace_control_characters(void) {
    for (char *c = message; *c; c++)
        if ((unsigned char)*c < 0x20 || *c == 0x7f) *c = '?';
}

speechtok_status st_fail(speechtok_status status, const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(message, sizeof message, format, arguments);
    va_end(arguments);
    replace_control_characters();
    return status;
}

speechtok_status st_prefix(speechtok_status status, const char *prefix) {
    if (!status) return status;
    char before[sizeof message];
    memcpy(before, message, sizeof before);
    snprintf(message, sizeof message, "%.160s: %.340s", prefix, before);
    replace_control_characters();
    return status;
}

speechtok_status st_no_memory(void) { return st_fail(SPEECHTOK_NO_MEMORY, "there is not enough memory"); }
