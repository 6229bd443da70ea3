# Kernels against their references, all variants of this CPU.
. ./lib.sh
build "$out/kern" kern/main.c -Wl,--no-as-needed -lm && run_c "$out/kern"
