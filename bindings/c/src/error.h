/* Messages of failed calls. */
#ifndef SPEECHTOK_ERROR_H
#define SPEECHTOK_ERROR_H

#include "platform.h"
#include "speechtok.h"

/* Most characters of a foreign text in a message. */
#define MAX_QUOTED 80

/* Keep a message for speechtok_error_message. Returns `status`. Control characters are replaced. */
speechtok_status st_fail(speechtok_status status, const char *format, ...) PRINTF(2, 3);

/* Put `prefix`, such as the name of a file, before the message of a call that failed. Returns `status`. */
speechtok_status st_prefix(speechtok_status status, const char *prefix);

speechtok_status st_no_memory(void);

#endif
