"""Names that a model in C can have."""

from __future__ import annotations

import re

_WORDS = """
alignas alignof and and_eq asm atomic auto bitand bitor bool break case catch char class compl
concept const consteval constexpr constinit const_cast continue co_await co_return co_yield
decltype default delete do double dynamic_cast else enum explicit export extern false float for
friend goto if inline int long main mutable namespace new noexcept not not_eq nullptr operator or
or_eq private protected public register reinterpret_cast requires restrict return short signed
sizeof static static_assert static_cast struct switch template this thread_local throw true try
typedef typeid typename typeof union unsigned using virtual void volatile wchar_t while xor xor_eq
"""
# Functions of math.h, stdlib.h, string.h, stdio.h and time.h, besides those that end in f or l.
_FUNCTIONS = """
abort abs acos acosh asctime asin asinh atan atan2 atanh atexit atof atoi atol bsearch calloc cbrt
ceil clock copysign cos cosh ctime difftime div erf erfc exit exp exp2 expm1 fabs fclose fdim feof
ferror fflush fgetc fgets floor fma fmax fmin fmod fopen fprintf fputc fputs fread free freopen
frexp fscanf fseek ftell fwrite gamma getc getchar getenv gets gmtime hypot ilogb index j0 j1 jn
labs ldexp ldiv lgamma localtime log log10 log1p log2 logb lrint lround malloc memchr memcmp memcpy
memmove memset mktime modf nan nearbyint nextafter perror pow printf putc putchar puts qsort raise
rand random realloc remainder remove remquo rename rewind rindex rint round scalb scalbn scanf
setbuf signal sin sinh sprintf sqrt srand sscanf strcat strchr strcmp strcpy strlen strncat strncmp
strncpy strstr strtod strtok strtol system tan tanh tgamma time tmpfile tmpnam trunc ungetc y0 y1 yn
"""
# Types and macros of the headers that the code includes, and of compilers.
_NAMES = """
EOF FILE HUGE_VAL I INFINITY NAN NULL RAND_MAX assert div_t double_t errno float_t intmax_t intptr_t
ldiv_t linux lldiv_t max_align_t nullptr_t offsetof ptrdiff_t size_t stderr stdin stdout uintmax_t
uintptr_t unix
"""
_STDINT = [
    f"{u}int{kind}{bits}_t"
    for u in ("", "u")
    for kind in ("", "_least", "_fast")
    for bits in (8, 16, 32, 64)
]
_OWN = "c h m n self step steps weights work x y"
_TAKEN = {
    **dict.fromkeys(_WORDS.split(), "is a word of C or C++"),
    **dict.fromkeys(_FUNCTIONS.split(), "is a function of C's library"),
    **dict.fromkeys([*_NAMES.split(), *_STDINT], "is a type or a macro of C's library"),
    **dict.fromkeys(_OWN.split(), "is a name within the header"),
}


def checked(name: str, origin: str) -> str:
    """Return a name that C can use.

    Args:
        name: the name.
        origin: where it comes from, in an error message.

    Raises:
        TypeError, ValueError: C cannot use it.
    """
    if not isinstance(name, str):
        raise TypeError(f"name must be a string, got {type(name).__name__}")
    reason = _TAKEN.get(name, "")
    if not re.fullmatch(r"[A-Za-z][A-Za-z0-9_]*", name):
        reason = "is no identifier of C, which has letters, digits and _ and begins with a letter"
    elif name.lower().startswith("seqnorm"):
        reason = "begins as the functions that all models share"
    if reason:
        raise ValueError(f'{origin} {name!r} {reason}: write name="model", say')
    return name
