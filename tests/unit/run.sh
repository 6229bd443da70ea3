# Every section's functions, called directly. The reference needs libm; the header does not.
. ./lib.sh
COVER_FLAGS="$COVER_FLAGS -lm"
build "$out/unit" unit/main.c && run_c "$out/unit"
