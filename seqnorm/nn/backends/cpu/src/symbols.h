/* With SEQNORM_PORTABLE, bind two functions to their first versions in glibc. Otherwise a library
 * that is compiled with glibc 2.34 needs that version, where 2.14 is enough. The first version of exp
 * also reports range errors, and computes the same. */
#pragma once

#include <string.h> /* defines __GLIBC__ */

#if defined(SEQNORM_PORTABLE) && defined(__GLIBC__) && defined(__x86_64__)
__asm__(".symver exp, exp@GLIBC_2.2.5");
__asm__(".symver dlsym, dlsym@GLIBC_2.2.5");
#endif
