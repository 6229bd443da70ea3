# Every section's functions, called directly.
. ./lib.sh
build "$out/unit" unit/main.c && run_c "$out/unit"
