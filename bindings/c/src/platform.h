/* What the library asks of the compiler, and of the machine. Included by every source file. */
#ifndef SPEECHTOK_PLATFORM_H
#define SPEECHTOK_PLATFORM_H

#include <float.h>
#include <limits.h>

#if !defined(FLT_EVAL_METHOD) || FLT_EVAL_METHOD != 0
#error "speechtok needs float arithmetic without excess precision: on 32-bit x86, compile with -msse2 -mfpmath=sse"
#endif
#ifdef __FAST_MATH__
#error "speechtok computes exact codes: compile without -ffast-math"
#endif
#if defined(__BYTE_ORDER__) && __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
#error "speechtok is written for little-endian machines"
#endif
#if FLT_MANT_DIG != 24 || DBL_MANT_DIG != 53 || CHAR_BIT != 8
#error "speechtok needs IEEE 754 floats and bytes of 8 bits"
#endif

#if defined(_MSC_VER) && !defined(__clang__)
#define THREAD_LOCAL __declspec(thread)
#define PRINTF(text, first)
#else
#define THREAD_LOCAL __thread
#define PRINTF(text, first) __attribute__((format(printf, text, first)))
#endif

#endif
