# Kernels against their references, all variants of this CPU.
. ./lib.sh
# a sanitizer's verdict must not look like the status of a program that reported its failures
ASAN_OPTIONS=exitcode=99 UBSAN_OPTIONS=exitcode=99:print_stacktrace=1
export ASAN_OPTIONS UBSAN_OPTIONS
build "$out/kern" kern/main.c -Wl,--no-as-needed -lm && run_c "$out/kern"
